"""The sampling kernels' own source on the emulated device, against the host's sampler and the exact reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence as Seq
from types import SimpleNamespace
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.constraints.base import TokenConstraint
from engine.errors import ConstraintError, InvalidLogitsError, KernelArgumentError
from engine.ops.cuda_sampling import LARGEST_VOCABULARY, held_bytes
from engine.sampling import device_reference
from engine.sampling.device_layout import MOST_BIASES, MOST_FORBIDDEN, RECORD, UNUSED, mask_words
from engine.sampling.device_sampler import DeviceSampler, SamplingInputs
from engine.sampling.processors import process_logits
from engine.sampling.random import uniforms
from engine.sampling.sampler import Sampler
from engine.scheduling.batch import SampledToken
from engine.scheduling.sequence import Sequence
from engine.types import SamplingParams
from tests.emulation.device import EmulatedRuntime, Schedule
from tests.engine.sampling.rows import random_logits, sequence

Float32Array = npt.NDArray[np.float32]
GREEDY = SamplingParams(temperature=0)
GUARD = 7


class Device:
    """A sampler on the emulated device, with buffers as a step would have them."""

    def __init__(self, runtime: EmulatedRuntime, vocab: int, rows: int, ends: Seq[int] = ()) -> None:
        self.sampler = DeviceSampler(runtime, vocab, rows, ends)
        self.buffer = torch.full((self.sampler.input_bytes(rows),), 255, dtype=torch.uint8)

    def run(self, logits: torch.Tensor, inputs: SamplingInputs) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and records of a step, both with a guard after them."""
        rows = len(logits)
        self.buffer[: len(inputs.data)] = torch.from_numpy(inputs.data)
        for each in inputs.counts:
            self.sampler.load_counts(each.slot, torch.from_numpy(each.counts.view(np.int16)))
        tokens = torch.full((rows + 1,), GUARD, dtype=torch.int32)
        records = torch.full((rows + 1, RECORD.itemsize), GUARD, dtype=torch.uint8)
        before = logits.clone()
        self.sampler.sample(logits, self.buffer, tokens[:rows], records[:rows])
        assert torch.equal(logits.view(torch.int32), before.view(torch.int32))
        assert tokens[rows] == GUARD
        assert records[rows].eq(GUARD).all()
        return tokens[:rows], records[:rows]

    def sample(self, logits: torch.Tensor, sequences: Seq[Sequence]) -> list[SampledToken]:
        """What `Sampler.sample` gives."""
        tokens, records = self.run(logits, self.sampler.parameters(sequences))
        sampled = self.sampler.results(records.numpy(), sequences)
        assert tokens.tolist() == [each.token_id for each in sampled]
        return sampled


def expected_token(logits: Float32Array, sequence: Sequence, ends: tuple[int, ...] = ()) -> int:
    """The token that the definition gives."""
    changed = logits.copy()
    process_logits(changed, sequence, ends)
    if sequence.sampling.greedy:
        return int(changed.argmax())
    uniform = uniforms([sequence.seed], [sequence.choice], [sequence.num_tokens])
    return device_reference.draw_token(changed, sequence.sampling, float(uniform[0]))


def assert_as_defined(device: Device, logits: torch.Tensor, sequences: Seq[Sequence]) -> list[SampledToken]:
    sampled = device.sample(logits, sequences)
    rows = logits.numpy()
    assert [each.token_id for each in sampled] == list(map(expected_token, rows, sequences))
    return sampled


@pytest.mark.parametrize("vocab", [1, 31, 2047, 2048, 2049, 5003])
def test_greedy_takes_the_likeliest_and_the_lowest_id_among_equals(emulated: EmulatedRuntime, vocab: int) -> None:
    logits = random_logits(3, vocab, seed=vocab)
    logits[1] = logits[1].round()
    logits[2] = 0.0
    logits[2, ::2] = -0.0
    sampled = assert_as_defined(Device(emulated, vocab, 3), logits, [sequence(GREEDY)] * 3)
    assert sampled[2].token_id == 0


CUTS = (
    SamplingParams(),
    SamplingParams(temperature=0.01),
    SamplingParams(temperature=1e-300),
    SamplingParams(temperature=100),
    SamplingParams(top_k=1),
    SamplingParams(top_k=50),
    SamplingParams(top_k=10**9),
    SamplingParams(top_p=0.9),
    SamplingParams(top_p=1e-300),
    SamplingParams(top_p=1 - 2**-53, temperature=2),
    SamplingParams(min_p=0.05),
    SamplingParams(min_p=1.0),
    SamplingParams(min_p=1e-30),
    SamplingParams(top_k=200, top_p=0.7, min_p=0.01, temperature=1.5),
)


@pytest.mark.parametrize("vocab", [1, 2049, 5003])
def test_every_cut_keeps_exactly_what_it_is_defined_to_keep(emulated: EmulatedRuntime, vocab: int) -> None:
    device = Device(emulated, vocab, len(CUTS))
    for seed, spread in enumerate((0.0, 1e-3, 3.0)):
        logits = random_logits(len(CUTS), vocab, seed=seed, spread=spread)
        logits[:, 5 : vocab // 2 : 3] = logits[:, :1]  # equals, in several chunks
        assert_as_defined(device, logits, [sequence(params, seed=seed) for params in CUTS])


def test_edges_of_the_kept_sets(emulated: EmulatedRuntime) -> None:
    """Of 2500 equals each cut keeps an exact number, and each of these is drawn by its share of the random numbers."""
    vocab, kept, count = 2500, 2222, 60
    params = (SamplingParams(top_k=kept), SamplingParams(top_p=(kept - 0.999) / vocab))
    device = Device(emulated, vocab, count)
    for each in params:
        rows = [sequence(each, seed=seed) for seed in range(count)]
        drawn = [token.token_id for token in device.sample(torch.zeros(count, vocab), rows)]
        numbers = uniforms([row.seed for row in rows], [0] * count, [3] * count)
        assert drawn == np.floor(numbers * kept).astype(int).tolist()


def unmixed(z: int) -> int:
    """The inverse of the output function of SplitMix64."""
    for shift, multiplier in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9), (30, 1)):
        z ^= z >> shift ^ z >> 2 * shift
        z = z * pow(multiplier, -1, 2**64) % 2**64
    return z


def seed_of(number: int, position: int) -> int:
    """The seed with which the random number of choice 0 at this position is `number` times 2^-53."""
    golden = 0x9E3779B97F4A7C15
    after_position = unmixed(number << 11)
    after_choice = unmixed((after_position - (position + 1) * golden) % 2**64)
    return unmixed((after_choice - golden) % 2**64)


def test_edges_of_the_draw(emulated: EmulatedRuntime) -> None:
    """Random numbers, and shares of top-p, exactly at the edge between two of several equals, and just beside it."""
    half, beyond_third = 2**52, float(np.nextafter(1 / 3, 1))
    cases = [
        (SamplingParams(top_k=2), 0, 0),
        (SamplingParams(top_k=2), half - 1, 0),
        (SamplingParams(top_k=2), half, 1),
        (SamplingParams(top_k=2), 2**53 - 1, 1),
        (SamplingParams(top_p=1 / 3), 2**53 - 1, 0),
        (SamplingParams(top_p=beyond_third), 2**53 - 1, 1),
    ]
    rows = [sequence(params, seed=seed_of(number, position=3)) for params, number, _ in cases]
    assert uniforms([row.seed for row in rows], [0] * 6, [3] * 6).tolist() == [each[1] / 2**53 for each in cases]
    sampled = assert_as_defined(Device(emulated, 3, 6), torch.zeros(6, 3), rows)
    assert [each.token_id for each in sampled] == [token for _, _, token in cases]


params_strategy = st.builds(
    SamplingParams,
    temperature=st.one_of(st.just(0.0), st.floats(1e-3, 100), st.sampled_from((1e-300, 1e-10, 1.0))),
    top_k=st.one_of(st.just(0), st.integers(1, 4000)),
    top_p=st.one_of(st.just(1.0), st.floats(1e-12, 1)),
    min_p=st.one_of(st.just(0.0), st.floats(0, 1)),
)


@settings(max_examples=40)
@given(data=st.data())
def test_any_logits_and_parameters(emulated: EmulatedRuntime, data: st.DataObject) -> None:
    vocab = data.draw(st.sampled_from((7, 300, 2100)))
    few = data.draw(st.lists(st.floats(-50, 50, width=32) | st.just(-np.inf), min_size=1, max_size=6))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = np.array([*few, 0.0], np.float32)
    shares = random.random(len(values)) ** 4 + 1e-3
    sequences = [
        sequence(params, seed=data.draw(st.integers(-(2**63), 2**64)))
        for params in data.draw(st.lists(params_strategy, min_size=1, max_size=4))
    ]
    logits = random.choice(values, (len(sequences), vocab), p=shares / shares.sum())
    logits += (random.random(logits.shape) < 0.3) * random.standard_normal(logits.shape).astype(np.float32)
    logits[:, random.integers(vocab)] = values.max()
    assert_as_defined(Device(emulated, vocab, len(sequences)), torch.from_numpy(logits), sequences)


def test_tokens_are_those_of_the_hosts_sampler(emulated: EmulatedRuntime) -> None:
    device, host = Device(emulated, 1200, 40, (3, 4)), Sampler((3, 4))
    params = (*CUTS, SamplingParams(min_tokens=5), SamplingParams(temperature=0, logprobs=3))
    different = 0
    for seed in range(3):
        logits = random_logits(40, 1200, seed=seed)
        rows = [sequence(params[row % len(params)], seed=row, choice=row % 3) for row in range(40)]
        pairs = zip(device.sample(logits, rows), host.sample(logits, rows), strict=True)
        different += sum(mine.token_id != theirs.token_id for mine, theirs in pairs)
    assert different <= 1


def test_penalties_over_many_steps_without_the_host_knowing_the_tokens(emulated: EmulatedRuntime) -> None:
    vocab, ends = 3000, (2, 2999)
    params = (
        SamplingParams(temperature=0, repetition_penalty=1.7),
        SamplingParams(frequency_penalty=0.3, presence_penalty=-0.2, top_k=30),
        SamplingParams(temperature=0, frequency_penalty=2.0, logit_bias={5: 20.0, 2100: 19.5, 2: 50.0}, min_tokens=6),
        SamplingParams(presence_penalty=2.0, repetition_penalty=0.8, min_tokens=9, stop_token_ids=[7, 2500]),
    )
    device = Device(emulated, vocab, 8, ends)
    sequences = [sequence(each, prompt=(1, 2500, 5), answer=(9, 9), seed=row) for row, each in enumerate(params)]
    for number, one in enumerate(sequences):
        one.arrival = number
    for step in range(12):
        logits = random_logits(4, vocab, seed=step, spread=1.5)
        known = [expected_token(logits[row].numpy(), one, ends) for row, one in enumerate(sequences)]
        unknown = [dataclasses.replace(one, token_ids=one.token_ids[:5], num_in_flight=step) for one in sequences]
        tokens, _ = device.run(logits, device.sampler.parameters(unknown, 4))
        assert tokens.tolist() == known
        for one, token in zip(sequences, known, strict=True):
            one.token_ids.append(token)


def test_a_step_that_is_run_again_counts_nothing_twice(emulated: EmulatedRuntime) -> None:
    device = Device(emulated, 50, 1)
    one = sequence(SamplingParams(temperature=0, frequency_penalty=2.0))
    logits = torch.zeros(1, 50)
    logits[0, 9] = 3.0
    for _ in range(3):
        assert device.sample(logits, [one])[0].token_id == 9
    one.token_ids += [9, 9]
    assert device.sample(logits, [one])[0].token_id == 0


def test_occurrences_stop_counting_where_their_bits_end(emulated: EmulatedRuntime) -> None:
    device = Device(emulated, 4, 1)
    one = sequence(SamplingParams(temperature=0, frequency_penalty=1e-4), prompt=(3,), answer=(1,) * 40000)
    logits = torch.tensor([[0.0, 3.2768, 0.0, 0.0]])
    assert device.sample(logits, [one])[0].token_id == 1
    one.token_ids.append(1)
    assert device.sample(logits, [one])[0].token_id == 1  # the bit beside them is the prompt's


def only(vocab: int, allowed: Seq[int], *, free: bool = False) -> TokenConstraint:
    """A constraint that allows these tokens, if it is not free."""
    mask = np.zeros(mask_words(vocab), np.uint32)
    np.bitwise_or.at(mask, np.array(allowed) // 32, np.uint32(1) << (np.array(allowed, np.uint32) % np.uint32(32)))
    return cast("TokenConstraint", SimpleNamespace(mask=lambda: mask, is_free=lambda _: free))


def test_constraints_allow_what_their_masks_name(emulated: EmulatedRuntime) -> None:
    vocab, allowed = 2500, [0, 31, 32, 2100, 2499]
    device, host = Device(emulated, vocab, 4, (31,)), Sampler((31,))
    logits = random_logits(4, vocab)
    params = (GREEDY, SamplingParams(temperature=100), SamplingParams(min_tokens=1), GREEDY)
    rows = [sequence(each) for each in params]
    for row in rows[:3]:
        row.constraint = only(vocab, allowed)
    sampled = device.sample(logits, rows)
    assert sampled == host.sample(logits, rows)
    assert all(each.token_id in allowed for each in sampled[:3])
    assert sampled[3].token_id == int(logits[3].argmax())


def test_a_constraint_that_is_free_allows_everything(emulated: EmulatedRuntime) -> None:
    device, host = Device(emulated, 2500, 2, (31,)), Sampler((31,))
    logits = random_logits(2, 2500)
    rows = [sequence(GREEDY), sequence(SamplingParams(temperature=2, seed=1))]
    expected = host.sample(logits, rows)
    for row in rows:
        row.constraint = only(2500, [7], free=True)
    assert device.sample(logits, rows) == host.sample(logits, rows) == expected


def test_a_constraint_that_leaves_nothing_fails_its_request(emulated: EmulatedRuntime) -> None:
    device, host = Device(emulated, 50, 3, (7,)), Sampler((7,))
    rows = [sequence(SamplingParams(min_tokens=1), name=name) for name in ("free", "stuck", "broken")]
    rows[1].constraint = rows[2].constraint = only(50, [7])
    logits = random_logits(3, 50)
    logits[2, 3] = torch.nan
    for sampler in (device, host):
        with pytest.raises(ConstraintError, match="No token is left") as caught:
            sampler.sample(logits, rows)
        assert "stuck" in caught.value.request_ids
    assert len(device.sample(logits[:1], rows[:1])) == 1


def test_logprobs_are_the_hosts(emulated: EmulatedRuntime) -> None:
    vocab = 4500
    device, host = Device(emulated, vocab, 5), Sampler()
    logits = random_logits(5, vocab, seed=4)
    logits[1, 7] = logits[1, 2200] = logits[1].max()
    logits[2] = logits[2].round()
    logits[3] = -torch.inf
    logits[3, [5, 2100]] = torch.tensor([0.0, -30000.0])
    logits[4] += 1000.0
    wanted = (0, 20, 20, 6, 3)
    rows = [sequence(SamplingParams(temperature=t % 2, logprobs=n)) for t, n in enumerate(wanted)]
    for mine, theirs in zip(device.sample(logits, rows), host.sample(logits, rows), strict=True):
        assert mine.token_id == theirs.token_id
        assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-6)
        assert [token for token, _ in mine.top] == [token for token, _ in theirs.top]
        assert [value for _, value in mine.top] == pytest.approx([value for _, value in theirs.top], abs=1e-6)


def test_fewer_tokens_than_alternatives(emulated: EmulatedRuntime) -> None:
    sampled = Device(emulated, 2, 1).sample(torch.tensor([[0.0, 1.0]]), [sequence(SamplingParams(logprobs=5))])
    assert [token for token, _ in sampled[0].top] == [1, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("params", [GREEDY, SamplingParams(), SamplingParams(logit_bias={0: 1.0}, logprobs=2)])
def test_broken_rows_are_named_and_leave_nothing_behind(
    emulated: EmulatedRuntime, value: float, params: SamplingParams
) -> None:
    device = Device(emulated, 2100, 3)
    logits = random_logits(3, 2100)
    broken = logits.clone()
    broken[0, 4] = value
    broken[2, 2099] = value
    rows = [sequence(params, name=name) for name in ("a", "b", "c")]
    with pytest.raises(InvalidLogitsError, match="NaN or infinite") as caught:
        device.sample(broken, rows)
    assert caught.value.request_ids == ("a", "c")
    assert_as_defined(device, logits, rows)


def test_rows_without_a_finite_logit_are_broken(emulated: EmulatedRuntime) -> None:
    device = Device(emulated, 3, 3)
    forbidding = SamplingParams(min_tokens=1, stop_token_ids=[0, 1, 2])
    rows = [sequence(forbidding, name="all"), sequence(GREEDY, name="none"), sequence(SamplingParams(), name="-inf")]
    logits = torch.zeros(3, 3)
    logits[2] = -torch.inf
    with pytest.raises(InvalidLogitsError) as caught:
        device.sample(logits, rows)
    assert caught.value.request_ids == ("all", "-inf")


def test_a_row_does_not_depend_on_its_neighbours_or_the_order_of_threads(emulated: EmulatedRuntime) -> None:
    params = [dataclasses.replace(each, logprobs=4) for each in (*CUTS[::3], GREEDY, SamplingParams(min_tokens=1))]
    device = Device(emulated, 4500, len(params))
    logits = random_logits(len(params), 4500)
    rows = [sequence(each, seed=number) for number, each in enumerate(params)]
    _, together = device.run(logits, device.sampler.parameters(rows))
    for number, row in enumerate(rows):
        _, alone = device.run(logits[number : number + 1], device.sampler.parameters([row]))
        assert torch.equal(alone[0], together[number])
    for schedule in (Schedule.REVERSE, Schedule.SHUFFLED):
        with emulated.in_order(schedule, 5):
            _, otherwise = device.run(logits, device.sampler.parameters(rows))
        assert torch.equal(otherwise, together)


def test_unused_rows_are_left_alone(emulated: EmulatedRuntime) -> None:
    device = Device(emulated, 100, 4)
    logits = random_logits(4, 100)
    logits[2:] = torch.nan
    inputs = device.sampler.parameters([sequence(GREEDY), sequence(SamplingParams())], 4)
    tokens, records = device.run(logits, inputs)
    assert tokens[2:].eq(GUARD).all()
    assert records[2:].eq(GUARD).all()
    assert UNUSED == 0
    assert tokens[0] == logits[0].argmax()


def test_frequencies_match_the_distribution(emulated: EmulatedRuntime) -> None:
    draws, vocab = 250, 5
    device = Device(emulated, vocab, draws)
    logits = random_logits(1, vocab, seed=1, spread=1.0)
    rows = [sequence(SamplingParams(temperature=0.8), answer=(0,) * position) for position in range(draws)]
    drawn = [each.token_id for each in device.sample(logits.repeat(draws, 1), rows)]
    expected = torch.softmax(logits[0] / 0.8, -1).numpy() * draws
    chi_square = ((np.bincount(drawn, minlength=vocab) - expected) ** 2 / expected).sum()
    assert chi_square < 23.5  # 4 degrees of freedom: one in 10^4 of true random samples exceeds this


def test_a_real_vocabulary(emulated: EmulatedRuntime) -> None:
    device = Device(emulated, 32000, 3)
    params = (SamplingParams(), SamplingParams(temperature=0.7, top_p=0.95, logprobs=2), SamplingParams(top_k=40))
    assert_as_defined(device, random_logits(3, 32000, spread=2.0), [sequence(each) for each in params])


def test_memory_is_what_was_planned(emulated: EmulatedRuntime) -> None:
    assert DeviceSampler(emulated, 5000, 3).nbytes == held_bytes(5000, 3)


def test_what_there_is_no_room_for_is_refused(emulated: EmulatedRuntime) -> None:
    device = Device(emulated, 3000, 2, (1,))
    assert (device.sampler.max_biased_tokens, device.sampler.max_stop_tokens) == (MOST_BIASES, MOST_FORBIDDEN - 1)
    most = SamplingParams(
        logit_bias=dict.fromkeys(range(MOST_BIASES), 1.0),
        stop_token_ids=range(MOST_FORBIDDEN - 1),
        min_tokens=4,
    )
    rows = [sequence(most), sequence(most)]
    for row in rows:
        row.constraint = only(3000, range(3000))
    assert device.sampler.parameters(rows).data.nbytes == device.sampler.input_bytes(2)
    many = sequence(SamplingParams(logit_bias=dict.fromkeys(range(MOST_BIASES + 1), 1.0)), name="many")
    with pytest.raises(KernelArgumentError, match="tokens of the request 'many'"):
        device.sampler.parameters([rows[0], many])
    stops = sequence(SamplingParams(stop_token_ids=range(MOST_FORBIDDEN)), name="stops")
    with pytest.raises(KernelArgumentError, match="tokens of the request 'stops'"):
        device.sampler.parameters([stops])
    with pytest.raises(KernelArgumentError, match=f"1 to {LARGEST_VOCABULARY} tokens"):
        DeviceSampler(emulated, LARGEST_VOCABULARY + 1, 1)
    with pytest.raises(KernelArgumentError, match="memory for sampling 2 rows at a time, not 3"):
        device.run(torch.zeros(3, 3000), device.sampler.parameters([sequence(GREEDY)], 3))


def test_wrong_tensors_are_refused(emulated: EmulatedRuntime) -> None:
    sampler = DeviceSampler(emulated, 8, 2)
    logits, inputs = torch.zeros(2, 8), torch.zeros(sampler.input_bytes(2), dtype=torch.uint8)
    tokens, records = torch.zeros(2, dtype=torch.int32), torch.zeros(2, RECORD.itemsize, dtype=torch.uint8)
    with pytest.raises(KernelArgumentError, match="logits"):
        sampler.sample(logits.half(), inputs, tokens, records)
    with pytest.raises(KernelArgumentError, match="inputs"):
        sampler.sample(logits, inputs[:100], tokens, records)
    with pytest.raises(KernelArgumentError, match="inputs must be aligned"):
        sampler.sample(logits, inputs[1:], tokens, records)
    with pytest.raises(KernelArgumentError, match="tokens"):
        sampler.sample(logits, inputs, tokens.long(), records)
    with pytest.raises(KernelArgumentError, match="records"):
        sampler.sample(logits, inputs, tokens, records[:1])
