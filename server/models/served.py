"""One model as routes see it, whether it is loaded or not."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from engine.admission import RequestLimits
from engine.client import EngineClient
from engine.config import EngineConfig
from engine.errors import CheckpointError, ModelLoadError, QuireError
from engine.model_files import read_json_object
from engine.types import ModelInfo
from server.models.catalogue import DeclaredModel
from server.models.slot import KnownModel
from server.models.switch import ModelSwitch
from server.observability.metrics import Metrics, ModelFigures
from server.observability.recent_prompts import RecentPrompts
from server.queue_gate import QueueGate
from server.text import ModelText, load_model_text
from server.version import installed_version

logger = logging.getLogger(__name__)

UNLIMITED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ExpectedLimits:
    """What a model that is not loaded will take, as far as its files and settings say; never less than it will."""

    vocab_size: int
    hidden_size: int
    max_model_len: int
    kv_cache_tokens: int
    max_biased_tokens: int = 0
    max_stop_tokens: int = 0


class ServedModel:
    """A model: its names, its text side, and its engine once that is there.

    Args:
        declared: what it is called and how it is set.
        switch: loads it; knows it by its first name.
        metrics: of this model.

    Attributes:
        names: as in `DeclaredModel`.
        queue: those who wait for their first token.
        created: when it became known, in Unix seconds.
    """

    def __init__(self, declared: DeclaredModel, switch: ModelSwitch, metrics: Metrics) -> None:
        self.names = declared.names
        self.configure = declared.configure
        self.metrics = metrics
        self.queue = QueueGate(switch.known(declared.names[0]).config)
        self._recent_prompts = (0, 0), RecentPrompts()
        self.created = int(time.time())
        self._switch = switch
        self._text: ModelText | None = None
        self._expected: ExpectedLimits | None = None
        self._reading: asyncio.Task[ModelText] | None = None

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.names[0]

    @property
    def known(self) -> KnownModel:
        """What the switch knows of it."""
        return self._switch.known(self.name)

    @property
    def engine(self) -> EngineClient | None:
        """Its engine, while it is loaded."""
        return self._switch.engine(self.name)

    @property
    def info(self) -> ModelInfo | None:
        """What it is, or was when it was loaded last."""
        engine = self.engine
        return self.known.info if engine is None else engine.model

    @property
    def has_text(self) -> bool:
        """Whether its text side has been read."""
        return self._text is not None

    @property
    def text(self) -> ModelText:
        """Its text side, which must have been read."""
        if self._text is None:
            raise RuntimeError(f"The text side of {self.name} has not been read.")
        return self._text

    @property
    def limits(self) -> RequestLimits:
        """What requests are checked against before they wait."""
        engine = self.engine
        if engine is not None:
            return engine.model
        if self._expected is None:
            self._expected = expected_limits(self.known.config)
        return self._expected

    @property
    def block_size(self) -> int:
        """Tokens per block of its cache."""
        info = self.info
        return self.known.config.block_size if info is None else info.block_size

    @property
    def fingerprint(self) -> str:
        """Changes when what answers changes: model, format, kernels or version. Known once the model is loaded."""
        model = self.info
        if model is None:
            return ""
        weights = (model.name, model.weight_format, model.bits_per_weight)
        facts = (*weights, model.kernels, model.kv_cache_dtype, installed_version())
        return "fp_" + hashlib.sha256(repr(facts).encode()).hexdigest()[:10]

    @property
    def figures(self) -> ModelFigures:
        """What metrics show of it."""
        known, stats = self.known, self._switch.stats(self.name)
        return ModelFigures(
            self.name,
            stats,
            waiting_for_model=self.waiting,
            available=self.available,
            loaded=self.engine is not None,
            info=self.info,
            loads=known.loads,
            failed_loads=known.failed_loads,
        )

    @property
    def recent_prompts(self) -> RecentPrompts:
        """Prompts since its engine was started, for only of these the cache may hold anything."""
        started = self.known.loads + (self.engine is None), self._switch.stats(self.name).restarts_total
        if self._recent_prompts[0] != started:
            self._recent_prompts = started, RecentPrompts()
        return self._recent_prompts[1]

    @property
    def waiting(self) -> int:
        """Requests that wait until it is loaded."""
        return self._switch.waiting(self.name)

    @property
    def available(self) -> bool:
        """Whether requests are taken."""
        try:
            self.check_available()
        except QuireError:
            return False
        return True

    def shown_as(self, asked: str | None) -> str:
        """The name an answer shows to a request that used this one."""
        return asked or self.name

    def check_available(self) -> None:
        """As `ModelSwitch.check`."""
        self._switch.check(self.name)

    def use(self) -> AbstractAsyncContextManager[EngineClient]:
        """As `ModelSwitch.use`."""
        return self._switch.use(self.name)

    async def read_text(self) -> ModelText:
        """The text side, read the first time it is asked for.

        Raises:
            QuireError: as `load_model_text`.
        """
        if self._text is None:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(fresh_text(self.known.config))
            self.adopt(await asyncio.shield(self._reading))
        return self.text

    async def prepare(self) -> None:
        """Read what is needed to check a request.

        Raises:
            ModelLoadError: that cannot be read, or could not a short while ago.
        """
        if self._text is not None and (self.engine is not None or self._expected is not None):
            return
        self.check_available()
        try:
            await self.read_text()
            if self.engine is None and self._expected is None:
                self._expected = await asyncio.to_thread(expected_limits, self.known.config)
        except QuireError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: QuireError) -> ModelLoadError:
        """Note, once for all requests that met it, why requests are refused, and until when."""
        known, now = self.known, asyncio.get_running_loop().time()
        if known.retry_at <= now:
            logger.error("The model %s cannot be served: %s", self.name, error)
            known.failed(error)
            known.pause(now)
        return ModelLoadError(self.name, retry_after=max(1.0, known.retry_at - now))

    def adopt(self, text: ModelText) -> None:
        """Use this text side, and the limits of the present settings."""
        self._text = text
        self._expected = None
        self.queue.limits = self.known.config


async def fresh_text(config: EngineConfig) -> ModelText:
    """The text side as it is now.

    Raises:
        QuireError: as `load_model_text`.
    """
    return await asyncio.to_thread(load_model_text, Path(config.model), config.tool_format, config.reasoning_format)


def expected_limits(config: EngineConfig) -> ExpectedLimits:
    """Limits from config.json and the settings; what they leave open counts as unlimited.

    Raises:
        CheckpointError: config.json cannot be read.
    """
    stated = read_json_object(Path(config.model) / "config.json", CheckpointError) or {}
    positions = _count(stated.get("max_position_embeddings"))
    return ExpectedLimits(
        vocab_size=_count(stated.get("vocab_size")),
        hidden_size=_count(stated.get("hidden_size")),
        max_model_len=min(config.max_model_len or UNLIMITED, positions),
        kv_cache_tokens=-(-config.kv_cache_tokens // config.block_size) * config.block_size or UNLIMITED,
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else UNLIMITED
