"""Model runs for the criteria of `select-layers` that need them, and their cost."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import console, duration, mode, wrote
from .options import ModelOptions
from .output import results
from .workers import load_spread

if TYPE_CHECKING:
    from tokenlens.models.vlm import VLM
    from tokenlens.probing.profile import Profile
    from tokenlens.selection.criteria import Capability
    from tokenlens.workers import Workers


@dataclass(frozen=True)
class Reruns:
    """Options of the runs from the command line; None where an option is not given."""

    model: str | None
    revision: str | None
    device: str | None
    dtype: str | None
    device_map: str | None
    quantize: str | None
    adapter: Path | None
    data: str | None
    limit: int | None
    rows: Path | None
    batch_size: int
    dry_run: bool
    workers: int | None = None
    ray: str | None = None
    worker_gpus: float = 0
    worker_cpus: int = 1

    def refuse(self, criterion: str) -> None:
        """Raise `SelectionError` for an option without effect: `criterion` runs no model.

        Options from the environment or a settings file hold for other commands too.
        """
        from tokenlens.errors import SelectionError

        for name, value in vars(self).items():
            if value and name in mode.typed and name not in ("batch_size", "dry_run"):
                option = "--" + name.replace("_", "-")
                raise SelectionError(
                    f"{option} is for --criterion capability, or agreement, which run the model; "
                    f"{criterion!r} is read from the profile: leave {option} out"
                )

    def loading(self, profile: "Profile") -> ModelOptions:
        """How the profile's model is loaded, with what the command line says instead."""
        from tokenlens.evaluation.profile_inputs import profiled_model

        name, revision = profiled_model(profile, self.model, self.revision)
        made = profile.manifest["identity"]["model"]
        quantize, adapter = self.quantize or made.get("quantize"), made.get("adapter")
        adapter = self.adapter or (Path(adapter) if adapter else None)
        place = (self.device, self.dtype, self.device_map)
        return ModelOptions(name, revision, *place, quantize, adapter)

    def scores(self, criterion: str, profile: "Profile") -> "Capability | None":
        """The scores of a criterion that runs the model; None after a dry run."""
        from tokenlens.selection.criterion_names import AGREEMENT

        return self.agreement(profile) if criterion == AGREEMENT else self.capability(profile)

    def capability(self, profile: "Profile") -> "Capability | None":
        """The scores of the runs, with missing runs made first; None after a dry run."""
        from tokenlens.evaluation.capability import capability_of, estimate, finished, measure
        from tokenlens.evaluation.metrics.agreement import reference_note
        from tokenlens.evaluation.profile_inputs import profiled_samples
        from tokenlens.storage.output_paths import capability_directory

        loading = self.loading(profile)
        samples = profiled_samples(profile, self.data, self.limit)
        directory = self.rows or capability_directory(loading.label, samples.name, len(samples))
        named = any((self.model, self.revision, self.dtype, self.quantize, self.adapter))
        comparison = None if named else finished(directory, profile, samples)
        if comparison is None:
            vlm, spread = self._load(profile, loading)
            if spread is None or self.dry_run:
                taken = estimate(vlm, samples, directory, self.batch_size, spread)
                results(runs=taken, directory=directory)
                console.print(
                    f"Capability: {taken.runs} runs (unpruned, then the choice of each of "
                    f"{vlm.layers} layers) over {taken.samples} samples of {samples.name}, "
                    f"{taken.answers} answers, {taken.done} of them there. Prefill MACs: "
                    f"{taken.passes:.1f} times the profile's one pass. By the first "
                    f"{taken.measured} samples the rest takes about {duration(taken.seconds)}."
                )
            if self.dry_run:
                return None
            how: dict[str, Any] = {"batch_size": self.batch_size, "workers": spread}
            comparison = measure(vlm, samples, directory, show_progress=True, **how)
        elif self.dry_run:
            results(directory=directory)
            console.print(f"Capability: all answers are in {directory}; nothing is left to run.")
            return None
        note = reference_note(next(iter(comparison.arms.values())).outcomes)
        if note:
            console.print(f"{note}.")
        wrote("Capability measured in", directory)
        return capability_of(comparison, samples.source)

    def agreement(self, profile: "Profile") -> "Capability | None":
        """The agreements of the runs, with missing runs made first; None after a dry run."""
        from tokenlens.evaluation.information.measure import estimate, information
        from tokenlens.evaluation.profile_inputs import profiled_samples
        from tokenlens.storage.output_paths import information_directory

        loading = self.loading(profile)
        samples = profiled_samples(profile, self.data, self.limit)
        directory = self.rows or information_directory(loading.label, samples.name, len(samples))
        vlm, spread = self._load(profile, loading)
        if spread is None or self.dry_run:
            taken = estimate(vlm, samples, directory, paths=False, batch_size=self.batch_size)
            results(runs=taken, directory=directory)
            console.print(
                f"Agreement: {taken.arms} forward passes over each of {taken.samples} samples of "
                f"{samples.name}, {taken.done} of them there; by the first batch the rest takes "
                f"about {duration(taken.seconds)}."
            )
        if self.dry_run:
            return None
        how: dict[str, Any] = {
            "paths": False,
            "batch_size": self.batch_size,
            "workers": spread,
        }
        found = information(vlm, samples, directory, show_progress=True, **how)
        wrote("Agreement measured in", directory)
        return found.as_capability()

    def _load(self, profile: "Profile", loading: ModelOptions) -> "tuple[VLM, Workers | None]":
        from tokenlens.errors import ModelError
        from tokenlens.evaluation.profile_inputs import require_profiled

        try:
            vlm, spread = load_spread(
                self.workers, self.ray, self.worker_gpus, self.worker_cpus, loading
            )
        except ModelError as error:
            raise ModelError(
                f"the model of {profile.directory} is run again, and it cannot be loaded: {error}"
            ) from error
        require_profiled(vlm, profile)
        return vlm, spread
