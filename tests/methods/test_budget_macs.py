"""Budgets in MACs, and every preset's promise against what a run does and what torch counts."""

import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenlens as tl
from tests.pruning.test_cost import counted_macs
from tests.pruning.test_forecast import reads_tower
from tests.support.builders import fake_inputs, save_model_directory, tiny_qwen2_5_vl, tiny_qwen2_vl
from tokenlens.errors import BudgetError, ScheduleError
from tokenlens.models.loading import load, load_outline
from tokenlens.models.prompt_lengths import prompt_lengths, typical_prompt
from tokenlens.models.structure import text_config
from tokenlens.models.vlm import VLM
from tokenlens.pruning.cost.decoder_macs import DecoderMacs, decoder_macs_of
from tokenlens.pruning.cost.forecast import forecast
from tokenlens.registry import METHODS
from tokenlens.reports.rebuilt import select_command
from tokenlens.schedule import BudgetNote, ModelRef, Schedule, Scorer
from tokenlens.selection.solve import Budget, parse_budget
from tokenlens.storage.invocation import shell_line


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("50% MACs", 0.5, "MACs ratio"),
        ("50 % macs", 0.5, "MACs ratio"),
        ("12.5%MAC", 0.125, "MACs ratio"),
        ("1.2 TMACs", 1.2e12, "MACs"),
        ("0.4GMACs", 0.4e9, "MACs"),
        ("400 gmacs", 400e9, "MACs"),
        ("7 MMACs", 7e6, "MACs"),
        ("3 kMACs", 3e3, "MACs"),
        ("1234567 MACs", 1234567, "MACs"),
    ],
)
def test_budgets_in_macs_are_read(text, amount, unit):
    budget = parse_budget(text)
    assert budget.amount == pytest.approx(amount, rel=1e-12)
    assert (budget.unit, budget.in_macs) == (unit, True)
    again = parse_budget(str(budget))
    assert (again.amount, again.unit) == (pytest.approx(budget.amount, rel=1e-3), unit)


@pytest.mark.parametrize("text", ["0.5 MACs", "0 GMACs", "101% MACs", "GMACs", "1 XMACs", "1.2 T"])
def test_what_is_no_budget_in_macs_is_named(text):
    with pytest.raises(BudgetError, match=r"'50% MACs', '1\.2 TMACs'") as caught:
        parse_budget(text)
    assert repr(text) in str(caught.value)


def test_flops_are_not_guessed_at():
    with pytest.raises(BudgetError, match="published FLOPs are MACs"):
        parse_budget("1.7 TFLOPs")


STAGED = [name for name in METHODS if METHODS[name].stages(METHODS[name].own_layers(8))]
"""The presets that prune, not those that change the picture."""
METHODS_OF_EVEN_STEPS = [
    name
    for name in STAGED
    if all(stage.disposal in ("drop", "merge", "bypass") for stage in METHODS[name].stages([1, 2]))
]
"""One token more costs more; where clusters are counted by tens it may cost less."""


def random_model(data):
    """A model and its prompt, with the number of text tokens."""
    heads = data.draw(st.sampled_from([2, 4]))
    model = data.draw(st.sampled_from([tiny_qwen2_vl, tiny_qwen2_5_vl]))(
        layers=data.draw(st.integers(5, 9)),
        hidden=data.draw(st.sampled_from([32, 64])),
        heads=heads,
        kv_heads=data.draw(st.sampled_from([heads, heads // 2])),
        merge=2,
    )
    model.set_attn_implementation({"text_config": "eager"})
    grid = data.draw(st.tuples(st.integers(5, 9), st.integers(5, 9)))
    inputs = fake_inputs(model, ((grid,),), text=[data.draw(st.integers(2, 30))])
    return model, inputs, prompt_lengths(VLM.wrap(model), inputs)


def within(low, high, where, unit):
    amount = low + where * (high - low)
    return Budget(min(amount, 1.0) if unit.endswith("ratio") else amount, unit)


def solved(name, model, budget, prompt):
    """The preset at the budget, or, where that is out of reach, at one in the range it names."""

    def preset(target):
        return Schedule.preset(
            name, model, budget=target, n_visual=prompt.visual, n_text=prompt.text
        )

    try:
        return preset(budget), budget
    except BudgetError as error:
        shares = re.findall(r"\(([\d.]+)% to ([\d.]+)%\)", str(error))
        least, most = (float(share) / 100 for share in shares[0])
        unit = "MACs ratio" if budget.in_macs else "ratio"
        inside = within(least + 0.002, most - 0.002, 0.3, unit)
        return preset(inside), inside


@pytest.mark.parametrize("name", STAGED)
@given(st.data())
@settings(max_examples=7, derandomize=True)
def test_every_preset_keeps_its_promise_in_a_run_and_costs_what_torch_counts(name, data):
    """Excluded from torch's count: the vision tower and the head, which `Cost` leaves out too.

    Norms, softmax, rotary embedding and sums take no multiply-accumulates of matrices: neither
    side counts them. What a method reads in the vision tower stands in the trace's scoring and is
    no part of the decoder, so that for such a method scoring is taken from the forecast. What the
    engine spares of the MACs as published is taken off.
    """
    model, inputs, prompt = random_model(data)
    unit = data.draw(st.sampled_from(["ratio", "tokens", "MACs ratio", "MACs"]))
    config = text_config(model)
    whole = forecast((), Schedule.preset(name, model, budget="90%").scorer, config, prompt)
    full = {"ratio": 1, "tokens": prompt.visual, "MACs ratio": 1, "MACs": whole.macs.total}[unit]
    budget = within(0.2 * full, full, data.draw(st.floats(0, 1)), unit)
    plan, budget = solved(name, model, budget, prompt)
    with tl.prune(model, plan) as trace:
        counted = counted_macs(model, inputs)

    entering = plan.tokens_entering(prompt.visual, plan.model.layers)
    assert trace.tokens_per_layer.tolist() == [entering]
    average, (macs,) = sum(entering) / len(entering), trace.cost.total_macs
    said = forecast(plan.stages, plan.scorer, config, prompt).macs
    if reads_tower(plan):
        macs += said.scoring - trace.cost.scoring_macs[0]
    assert macs - trace.cost.spared_macs[0] == pytest.approx(counted, rel=0.01)
    assert whole.macs.total == trace.cost.unpruned.total_macs[0]
    assert sum(said[:3]) == trace.cost.prefill_macs[0]
    assert said.merging == trace.cost.merging_macs[0]

    assert plan.budget.n_visual == prompt.visual
    if budget.in_macs:
        assert macs <= 1.01 * said.total, "raters may be fewer than are counted"
        # A model without a processor is solved for as if all text stood after the picture.
        after = prompt._replace(before=0, after=prompt.text)
        said = forecast(plan.stages, plan.scorer, config, after).macs
        whole = forecast((), plan.scorer, config, after)
        target = budget.amount * budget.unit_of(whole.macs.total)
        assert plan.budget.average == pytest.approx(average / prompt.visual, abs=1e-6)
        a_token = whole.macs.total / sum(prompt)
        off, size = abs(said.total - target), budget.unit_of(whole.macs.total)
        if name in METHODS_OF_EVEN_STEPS:
            assert off <= max(0.01 * target, 1.1 * a_token)
        if off > 0.011 * target:
            assert plan.budget.reached == pytest.approx(said.total / size, rel=0.01)
        elif off < 0.009 * target:
            assert plan.budget.reached is None
        assert (plan.budget.n_text, plan.budget.macs) == (prompt.text, pytest.approx(budget.amount))
    else:
        target = budget.tokens(prompt.visual)
        assert abs(average - target) <= max(1, 0.01 * target)
        assert plan.budget.reached is None


def test_torch_tells_the_unpruned_model_from_the_pruned_one():
    """A control of the comparison above."""
    model = tiny_qwen2_vl(layers=6)
    model.set_attn_implementation({"text_config": "eager"})
    inputs = fake_inputs(model, (((7, 7),),))
    plan = Schedule.preset("swiftvlm", model, budget="90% MACs", n_visual=49, n_text=7)
    with tl.prune(model, plan) as trace:
        counted = counted_macs(model, inputs)
    computed = trace.cost.total_macs[0] - trace.cost.spared_macs[0]
    assert computed == pytest.approx(counted, rel=0.01)
    assert trace.cost.unpruned.total_macs[0] != pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize("name", STAGED)
@pytest.mark.parametrize("share", [0.4, 1.0])
def test_a_vlm_says_itself_how_long_its_prompts_are(name, share, tmp_path):
    vlm = load(save_model_directory(tmp_path, tiny_qwen2_vl(layers=8), pixels=96 * 96))
    prompt = typical_prompt(vlm)
    assert prompt.visual >= 400
    budget = Budget(share, "MACs ratio")
    plan, budget = solved(name, vlm, budget, prompt)
    again = Schedule.preset(name, vlm, budget=budget)
    assert again == plan
    assert again.budget.n_text == prompt.text
    assert again.budget.reached is None, "with so many tokens the target is met"
    whole = forecast((), plan.scorer, vlm.decoder_config, prompt).macs.total
    total = forecast(plan.stages, plan.scorer, vlm.decoder_config, prompt).macs.total
    assert total / whole == pytest.approx(budget.amount, rel=0.01)


def test_the_range_that_a_refusal_names_is_real():
    model = tiny_qwen2_vl(layers=8)
    plan = {"n_visual": 300, "n_text": 20}
    with pytest.raises(BudgetError, match=r"20\.0% of the unpruned .* is out of reach") as caught:
        Schedule.preset("pdrop", model, budget="20% MACs", **plan)
    assert "300 visual and 20 text tokens" in str(caught.value)
    assert "\n" not in str(caught.value)
    numbers = r"can be (\S+ \S+MACs) to (\S+ \S+MACs) \((\S+)% to (\S+)%\)"
    least, most, low, high = re.findall(numbers, str(caught.value))[0]
    assert 0.2 < float(low) / 100 < 1 < float(high) / 100
    for inside in (f"{float(low) + 0.1}% MACs", "100% MACs"):
        assert Schedule.preset("pdrop", model, budget=inside, **plan).budget.reached is None
    by_number = Schedule.preset("pdrop", model, budget=Budget(1.001 * _macs(least), "MACs"), **plan)
    assert by_number.stages[-1].keep == pytest.approx(0.003)
    with pytest.raises(BudgetError, match="out of reach"):
        Schedule.preset("pdrop", model, budget=Budget(1.01 * _macs(most), "MACs"), **plan)


def _macs(text):
    return parse_budget(text).amount


def test_the_nearest_is_taken_and_said_where_tokens_are_few():
    model = tiny_qwen2_vl(layers=6)
    plan = Schedule.preset("stride", model, budget="50% MACs", n_visual=5, n_text=2)
    meter, totals = DecoderMacs.of(model, 2), {}
    for count in range(1, 6):
        stages = [plan.stages[0].model_copy(update={"keep": count})]
        totals[count] = meter.macs(stages, plan.scorer, 5) / meter.macs((), plan.scorer, 5)
    nearest = min(totals.values(), key=lambda share: abs(share - 0.5))
    assert abs(nearest - 0.5) > 0.005
    assert plan.budget.reached == pytest.approx(nearest)
    assert plan.budget.macs == 0.5


def test_a_description_of_a_model_is_not_enough():
    with pytest.raises(BudgetError, match=r"50 % MACs needs .*give the loaded model"):
        Schedule.preset("fastv", ModelRef(architecture="A", layers=8), budget="50% MACs")
    with pytest.raises(BudgetError, match="n_text: got none"):
        Schedule.preset("fastv", tiny_qwen2_vl(), budget="50% MACs")
    with pytest.raises(BudgetError, match="n_text: got 0"):
        Schedule.preset("fastv", tiny_qwen2_vl(), budget="50% MACs", n_text=0)
    with pytest.raises(BudgetError, match="50 % MACs is no number of tokens"):
        parse_budget("50% MACs").tokens(576)


def test_the_note_is_in_the_file_and_gives_the_command_back(tmp_path):
    model = tiny_qwen2_vl(layers=8)
    whole = DecoderMacs.of(model, 20).macs((), Scorer(), 144)
    for budget in ("80% MACs", f"{round(0.8 * whole)} MACs"):
        plan = Schedule.preset("swiftvlm", model, budget=budget, n_visual=144, n_text=20)
        plan.save(tmp_path / "out.json")
        assert Schedule.load(tmp_path / "out.json") == plan
        note = json.loads((tmp_path / "out.json").read_text())["budget"]
        assert list(note) == ["average", "n_visual", "macs", "n_text"]
        assert budget in shell_line(select_command("profile", plan))
    old = Schedule.preset("swiftvlm", model, budget=108, n_visual=144)
    assert old.as_json()["budget"] == {"average": 108, "n_visual": 144}
    assert "--budget 108" in shell_line(select_command("profile", old))


@pytest.mark.parametrize("value", [0, 1.5, -1, True, "much", 0.0])
def test_a_note_holds_a_share_or_a_number_of_macs(value):
    with pytest.raises(ValueError, match=r"a ratio in \(0, 1\]"):
        BudgetNote(average=0.5, macs=value)
    with pytest.raises(ScheduleError, match=r"budget\.macs"):
        Schedule(
            schema=1,
            method="m",
            model={"architecture": "A", "layers": 4},
            stages=[{"score_layer": 1, "when": "after", "keep": 0.5, "disposal": "drop"}],
            budget={"average": 0.5, "macs": value},
        )


def test_an_outline_counts_like_the_model_and_reads_no_weights(tmp_path):
    folder = save_model_directory(tmp_path, tiny_qwen2_vl(layers=8))
    vlm = load(folder)
    plan = Schedule.preset("swiftvlm", vlm, budget="80% MACs")
    (folder / "model.safetensors").unlink()
    outline = load_outline(folder)
    assert Schedule.preset("swiftvlm", outline, budget="80% MACs") == plan
    assert outline.model.dtype == torch.float32
    assert load_outline(folder, dtype="bf16").model.dtype == torch.bfloat16
    reference = ModelRef.of(outline)
    assert decoder_macs_of(reference).macs(plan.stages, plan.scorer, 36) > 0
    with pytest.raises(BudgetError, match="without a name"):
        decoder_macs_of(ModelRef.of(vlm.model))
    with pytest.raises(BudgetError, match="profile it again"):
        decoder_macs_of(reference.model_copy(update={"layers": 9}))
