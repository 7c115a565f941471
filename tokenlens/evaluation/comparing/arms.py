"""Arms of a comparison: the schedule of each method at each budget, and schedule files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokenlens.errors import BudgetError, ProfileError, PruningError, ScheduleError, SelectionError
from tokenlens.evaluation.comparing.arm_names import sorted_names
from tokenlens.evaluation.comparing.summary import OWN, Plan
from tokenlens.evaluation.information.curves import Information
from tokenlens.evaluation.running.generation import Prepared
from tokenlens.evaluation.running.options import RunOptions
from tokenlens.methods import find_method
from tokenlens.methods.plan import Selection, plan
from tokenlens.methods.swiftvlm import relative_layers
from tokenlens.models.vlm import VLM
from tokenlens.probing.profile import Profile
from tokenlens.pruning.cost.decoder_macs import DecoderMacs
from tokenlens.samples.sample import Sample
from tokenlens.schedule import Schedule
from tokenlens.selection.solve import Budget
from tokenlens.storage.output_paths import newest_information_of, newest_profile_of, same_model

_NEAR = 0.01
"""Greatest distance of a schedule file from a table's budget, as a share of the unpruned cost."""
_REFUSALS = (BudgetError, PruningError, ScheduleError, SelectionError)


@dataclass
class Arms:
    """The arms of a comparison.

    Attributes:
        schedules: schedules by the name of their arm.
        budgets: per budget the rows of its table: the method's name and its arm.
        left_out: per budget the methods that cannot be run at it, each with the reason in one line.
        layers: per budget a sentence on the layers of the methods that have none of their own.
    """

    schedules: dict[str, Schedule] = field(default_factory=dict)
    budgets: dict[str, dict[str, str]] = field(default_factory=dict)
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)
    layers: dict[str, str] = field(default_factory=dict)

    @property
    def plan(self) -> Plan | None:
        """The arms of each table; None where no arm has a budget."""
        return Plan(self.budgets, self.left_out, self.layers) if self.budgets else None

    def add(self, budget: str, method: str, schedule: Schedule) -> None:
        """Add a method to the table of a budget."""
        arm = f"{method} {budget}" if budget != OWN else method
        self.schedules[arm] = schedule
        self.budgets.setdefault(budget, {})[method] = arm

    def add_layer_note(self, budget: Budget, sentence: str) -> None:
        """Add a sentence on layers to the notes of a budget."""
        said = self.layers.get(str(budget))
        self.layers[str(budget)] = f"{said}; {sentence}" if said else sentence

    def leave_out(self, budget: str, method: str, reason: str) -> None:
        """Record why a method is not in the table of a budget."""
        self.left_out.setdefault(budget, {})[method] = reason


def profile_for(vlm: VLM, directory: Path | None) -> Profile | None:
    """The profile in `directory`, or else the newest one of this model, if any.

    Raises `ProfileError` where the directory holds no profile, or one of another model.
    """
    here = {"config_hash": vlm.config_hash, "weights": vlm.weights_hash}
    if directory is None:
        found = newest_profile_of(here)
        return Profile(found) if found else None
    profile = Profile(directory)
    of = profile.manifest["identity"]["model"]
    if not same_model(of, here):
        raise ProfileError(
            f"{directory} is the profile of {of['id']} ({of['config_hash']}), the model is "
            f"{vlm.id} ({here['config_hash']}), or its weights have changed since; make one with "
            "`tokenlens profile`"
        )
    return profile


def information_for(vlm: VLM) -> Information | None:
    """The newest information profile of this model, if any."""
    here = {"config_hash": vlm.config_hash, "weights": vlm.weights_hash}
    found = newest_information_of(here)
    return Information.load(found) if found else None


def comparison_arms(
    vlm: VLM,
    names: Sequence[str],
    budgets: Sequence[Budget],
    samples: Sequence[Sample],
    *,
    profile: Profile | None = None,
    information: Information | None = None,
    any_model: bool = False,
    n_visual: int | None = None,
) -> Arms:
    """The schedule of every method at every budget that it can meet.

    A method that cannot meet a budget, or that the engine refuses for this model, is left out of
    that budget and recorded. Every schedule answers one sample first, so that a refusal is found
    before the run.

    Args:
        vlm: the model that is pruned.
        names: methods, `all` for every method, and paths of schedule files.
        budgets: budgets of the methods. A schedule file joins the table of the budget that it
            meets,
            within 1 % of the visual tokens (of the unpruned prefill's MACs where it is in MACs), or
            else that of `OWN`.
        samples: schedules are tried on the first one with a picture.
        profile: chooses the layers of methods that have none of their own (`swiftvlm`, `drop`).
            Budgets are solved for the number of visual tokens of its samples. None takes the
            published
            layers at the same relative depth and the tokens of a square picture.
        information: gives what each layer needs to the methods that use it (`tokenlens`, `shortv`).
            None takes these methods' own assumptions.
        any_model: run schedule files that were made for a model of another id.
        n_visual: visual tokens per sample that budgets are solved for, in place of these.

    Raises:
        ScheduleError: no such method, or a schedule file that cannot be used.
        BudgetError: no method can be run; the message gives the first one's reason.
    """
    pictured = (sample for sample in samples if sample.pictures)
    arms, first = Arms(), Prepared(vlm, [next(pictured, samples[0])])
    one_token = RunOptions(max_new_tokens=1, any_model=any_model)
    methods, files = sorted_names(names)
    for budget in budgets:
        heading = str(budget)
        selection = _selection(arms, vlm, budget, methods, profile)
        _add_needs_note(arms, budget, methods, information)
        for method in methods:
            try:
                schedule = _preset(arms, vlm, method, budget, selection, information, n_visual)
                first.answer(schedule, one_token)
            except _REFUSALS as error:
                arms.leave_out(heading, method, str(error))
                continue
            arms.add(heading, method, schedule)
    for file in files:
        schedule = Schedule.load(file)
        first.answer(schedule, one_token)
        arms.add(_matching_budget(vlm, schedule, budgets), file.stem, schedule)
    if not arms.schedules:
        heading, reasons = next(iter(arms.left_out.items()))
        method, reason = next(iter(reasons.items()))
        raise BudgetError(f"no method can be run; of {method} at {heading}: {reason}")
    return arms


def _preset(
    arms: Arms,
    vlm: VLM,
    name: str,
    budget: Budget,
    selection: Selection | None,
    information: Information | None,
    n_visual: int | None,
) -> Schedule:
    """A method at a budget, by its layers for small budgets where the usual ones cannot meet it."""
    method = find_method(name)
    n_visual = selection.n_visual if selection and n_visual is None else n_visual
    if method.layers_from == "information" and information is not None:
        schedule = method.build(vlm, budget=budget, n_visual=n_visual, needs=information.needs)
        return schedule.replace(why=information.why)
    own = selection if method.layers_from == "profile" else None
    schedule, early = method.build_or_earlier(
        vlm,
        budget=budget,
        layers=own.layers if own else None,
        n_visual=n_visual,
    )
    if own is not None:
        schedule = schedule.replace(why=own.schedule.why)
    if early is not None:
        listed = ", ".join(map(str, early))
        arms.add_layer_note(budget, f"{name}: layers {listed}, those published for small budgets")
    return schedule


def _add_needs_note(
    arms: Arms, budget: Budget, methods: Sequence[str], information: Information | None
) -> None:
    """Note the source of the layers' needs, for the methods that use them."""
    told = ", ".join(name for name in methods if find_method(name).layers_from == "information")
    if not told:
        return
    if information is None:
        said = "assumed (no information profile of this model; `tokenlens information` makes one)"
    else:
        data = information.identity["data"]
        said = f"measured on {data['samples']} samples of {data['source']} ({data['split']})"
    arms.add_layer_note(budget, f"{told}: what each layer needs is {said}")


def _selection(
    arms: Arms, vlm: VLM, budget: Budget, methods: Sequence[str], profile: Profile | None
) -> Selection | None:
    """The layers for the methods without their own, if a profile chooses them; said in `arms`."""
    planned = ", ".join(name for name in methods if find_method(name).layers_from == "profile")
    if profile is None:
        if planned:
            layers = ", ".join(map(str, relative_layers(vlm.layers)))
            arms.add_layer_note(
                budget,
                f"{planned}: layers {layers}, the published relative depths (no "
                "profile of this model; `tokenlens profile` makes one)",
            )
        return None
    try:
        selection = plan(profile, budget=budget, meter=lambda _: DecoderMacs.of(vlm))
    except _REFUSALS as error:
        if planned:
            arms.add_layer_note(
                budget,
                f"{planned}: the published relative depths, since the profile "
                f"{profile.directory} chooses none: {error}",
            )
        return None
    if planned:
        layers = ", ".join(map(str, selection.layers))
        arms.add_layer_note(budget, f"{planned}: layers {layers}, chosen from {profile.directory}")
    return selection


def _matching_budget(vlm: VLM, schedule: Schedule, budgets: Sequence[Budget]) -> str:
    """The heading of the budget that a schedule meets."""
    n_visual = (schedule.budget and schedule.budget.n_visual) or _SOME_TOKENS

    def missed(budget: Budget) -> float:
        """Distance from the budget, as a share of the unpruned model's tokens or MACs."""
        if budget.in_macs:
            meter = DecoderMacs.of(vlm, schedule.budget.n_text if schedule.budget else None)
            whole = meter.macs((), schedule.scorer, n_visual)
            shown = schedule.shown_tokens(n_visual)
            came_to = meter.macs(schedule.stages, schedule.scorer, shown)
        else:
            whole = float(n_visual)
            came_to = sum(schedule.tokens_entering(n_visual, vlm.layers)) / vlm.layers
        return abs(came_to - budget.amount * budget.unit_of(whole)) / whole

    near: Mapping[str, float] = {str(budget): missed(budget) for budget in budgets}
    best = min(near, key=lambda heading: near[heading], default=OWN)
    return best if near.get(best, 1.0) <= _NEAR else OWN


_SOME_TOKENS = 576
"""Visual tokens assumed for a schedule file that gives no number: those of LLaVA-1.5."""
