"""Known fields, of OpenAI and of other servers, that are not implemented here and that would change the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class RefusedField(NamedTuple):
    """A field that is refused by name.

    Attributes:
        neutral: values, besides null, that ask for nothing special. A number stands for itself as integer and float.
        hint: what the message adds.
    """

    neutral: tuple[Any, ...] = ()
    hint: str = ""

    def asks_for_nothing(self, value: Any) -> bool:
        """Whether leaving the field out changes nothing."""
        return value is None or any(value == each and _kind(value) is _kind(each) for each in self.neutral)


def _kind(value: Any) -> type:
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


_ONLY_CHATS = ", except by /v1/chat/completions"
_ONLY_COMPLETIONS = ", except by /v1/completions"
_BUDGET = RefusedField((-1, 0), _ONLY_CHATS)
_OFF = RefusedField((False,))
_ZERO = RefusedField((0,))
_ONE = RefusedField((1,))

_OF_OPENAI: Mapping[str, RefusedField] = {
    "tools": RefusedField(([],), _ONLY_CHATS),
    "tool_choice": RefusedField(("none", "auto"), f" beyond 'none'{_ONLY_CHATS}"),
    "functions": RefusedField(([],), "; 'tools' has taken its place"),
    "function_call": RefusedField(("none", "auto"), "; 'tool_choice' and 'tool_calls' have taken its place"),
    "modalities": RefusedField((["text"],), " beyond ['text']"),
    "audio": RefusedField(),
    "moderation": RefusedField(),
    "web_search_options": RefusedField(),
    "reasoning_effort": RefusedField(("none",), _ONLY_CHATS),
    "verbosity": RefusedField(("medium",)),
    "echo": RefusedField((False,), f" beyond false{_ONLY_COMPLETIONS}"),
}

_OF_OTHERS: Mapping[str, RefusedField] = {
    "thinking_token_budget": _BUDGET,
    "reasoning_budget_tokens": _BUDGET,
    "thinking_budget_tokens": _BUDGET,
    "thinking_budget": _BUDGET,
    "chat_template": RefusedField(),
    "documents": RefusedField(([],)),
    "guided_whitespace_pattern": RefusedField(),
    "whitespace_pattern": RefusedField(),
    "disable_any_whitespace": _OFF,
    "disable_additional_properties": _OFF,
    "json_schema": RefusedField(),
    "regex": RefusedField(),
    "regex_pattern": RefusedField(),
    "ebnf": RefusedField(),
    "grammar_string": RefusedField(),
    "lora_request": RefusedField(),
    "negative_prompt": RefusedField(("",)),
    "guidance_scale": _ONE,
    "cfg_scale": _ONE,
    "return_token_ids": _OFF,
    "return_tokens_as_token_ids": _OFF,
    "max_new_tokens": RefusedField(hint="; 'max_tokens' means the same"),
    "n_predict": RefusedField((-1,), "; 'max_tokens' means the same"),
}

_SAMPLERS: Mapping[str, RefusedField] = {
    "bad_words": RefusedField(([],)),
    "allowed_token_ids": RefusedField(),
    "banned_tokens": RefusedField(([],)),
    "banned_strings": RefusedField(([],)),
    "ban_eos_token": RefusedField((False,), "; 'ignore_eos' means the same"),
    "token_healing": _OFF,
    "logits_processors": RefusedField(([],)),
    "samplers": RefusedField(),
    "sampler_priority": RefusedField(),
    "sampler_order": RefusedField(),
    "temperature_last": _OFF,
    "do_sample": RefusedField((True,), "; a 'temperature' of 0 samples nothing"),
    "use_beam_search": _OFF,
    "length_penalty": _ONE,
    "rep_pen": RefusedField((1,), "; 'repetition_penalty' means the same"),
    "repeat_penalty": RefusedField((1,), "; 'repetition_penalty' means the same"),
    "typical": _ONE,
    "typical_p": _ONE,
    "tfs": _ONE,
    "tfs_z": _ONE,
    "top_a": _ZERO,
    "top_n_sigma": RefusedField((-1, 0)),
    "nsigma": _ZERO,
    "epsilon_cutoff": _ZERO,
    "eta_cutoff": _ZERO,
    "skew": _ZERO,
    "smoothing_factor": _ZERO,
    "dynamic_temperature": _OFF,
    "dynatemp_range": _ZERO,
    "mirostat": _ZERO,
    "mirostat_mode": _ZERO,
    "dry_multiplier": _ZERO,
    "xtc_probability": _ZERO,
}

REFUSED: Mapping[str, RefusedField] = {**_OF_OPENAI, **_OF_OTHERS, **_SAMPLERS}
"""Refused wherever in a body they stand."""

REFUSED_BY_OTHER_ROUTES: Mapping[str, RefusedField] = {
    "messages": RefusedField(hint=" here"),
    "prompt": RefusedField(hint=" here"),
    "n": RefusedField((1,), " here"),
    "stream": RefusedField((False,), " here"),
    "max_completion_tokens": RefusedField(hint=f"{_ONLY_CHATS}; elsewhere it is 'max_tokens'"),
    "top_logprobs": RefusedField((0,), f"{_ONLY_CHATS}; elsewhere 'logprobs' is the number"),
    "chat_template_kwargs": RefusedField(({},), _ONLY_CHATS),
    "continue_final_message": RefusedField((False,), _ONLY_CHATS),
    "enable_thinking": RefusedField(hint=_ONLY_CHATS),
    "reasoning_format": RefusedField(hint=_ONLY_CHATS),
    "add_special_tokens": RefusedField((False,), f"{_ONLY_COMPLETIONS}; templates bring their own"),
    "suffix": RefusedField(("",), _ONLY_COMPLETIONS),
    "best_of": RefusedField((1,), _ONLY_COMPLETIONS),
}
"""Refused at the top of a body whose route does not have them."""
