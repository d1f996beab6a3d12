"""A run from recipe to report: the order of the stages, and what is written down between them.

    folder -> sinks -> data and model -> forecast -> LR finder -> fit -> evaluate -> calibrate -> report -> verdict

Knows every stage and no stage's inside. Errors leave through here so that summary.json always tells how a run ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry.catalogue.catalog import Catalogue, catalogue
from registry.catalogue.plugins import find_plugins
from registry.contracts import Callback, LRFinding, Predictions
from registry.errors import DataError, RecipeError
from registry.mixes import MIXED_NUMBERS
from registry.printing import counted, duration
from registry.recording import Curve, RunInfo
from trainer.data.fingerprint import fingerprint, hold_against
from trainer.engine.chain import Chain
from trainer.engine.interrupts import Interrupts
from trainer.engine.keeper import Latest, best_weights, put_best_back
from trainer.engine.processes import Processes
from trainer.engine.progress import history_in
from trainer.experiment.checking import check_data
from trainer.experiment.experiment import Experiment, Which, build_callbacks
from trainer.experiment.known import known_from
from trainer.experiment.trained import Trained, callbacks_changed, to_keep
from trainer.recipe.afterwards import RESOLVED
from trainer.recipe.checks.expect import Verdict, judge, not_judged_because
from trainer.recipe.fast import fast_limit, fast_recipe
from trainer.recipe.load import Loaded
from trainer.recipe.problems import render
from trainer.recipe.recipe import Recipe, Reference
from trainer.recipe.resolve import hparams, resolved_yaml
from trainer.report.page import write_report
from trainer.run import predictions as predictions_file
from trainer.run import verdicts as verdicts_table
from trainer.run.display import Display
from trainer.run.environment import (
    describe_environment,
    device_name,
    made_on,
    of_training,
    processes_lines,
    with_earlier,
)
from trainer.run.fixed import learnt_from, recipe_digest
from trainer.run.folder import RunFolder
from trainer.run.machine_errors import as_user_error
from trainer.run.recorder import MetricsFile, Recorder
from trainer.run.status import RunStatus
from trainer.stages.audit import audit_of_run
from trainer.stages.calibrate import calibrate
from trainer.stages.evaluate import Outcome, evaluate_weights
from trainer.stages.fit import FitResult, fit
from trainer.stages.forecast import seconds_per_step, total_seconds
from trainer.stages.lr_finder import find_lr, required_lr
from trainer.stages.report import gather


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        folder: where everything lies.
        summary: what summary.json holds.
        verdicts: on the recipe's expectations; empty where not judged.
        exit_code: 0, or 8 when an expectation was missed.
    """

    folder: RunFolder
    summary: Mapping[str, Any]
    verdicts: Sequence[Verdict]
    exit_code: int


@dataclass(frozen=True)
class Order:
    """What to run and how.

    Attributes:
        recipe: checked.
        warnings: of the checks, a sentence each; the report shows them.
        not_judged: why expectations do not count; "" where the recipe runs as written.
        command: the command line, for environment.json.
        callbacks: behaviour that no recipe names; its state is its own matter.
        page: whether the report is written.
        spares_test: leave a held-out test split alone; the validation part is measured at the end.
    """

    recipe: Recipe
    warnings: Sequence[str]
    not_judged: str
    command: Sequence[str]
    callbacks: Sequence[Callback] = ()
    page: bool = True
    spares_test: bool = False

    @classmethod
    def of(cls, loaded: Loaded, command: Sequence[str]) -> Order:
        """Return the order to run a recipe that was read, cut down where it is marked as fast.

        Raises:
            RecipeError: it has problems; its message shows them all.
        """
        recipe = loaded.usable()
        recipe = fast_recipe(recipe) if recipe.fast else recipe
        warnings = tuple(warning.text for warning in loaded.warnings)
        return cls(recipe, warnings, not_judged_because(recipe), tuple(command))


def short_digest(text: str) -> str:
    """Return a digest that people can compare."""
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=4).hexdigest()


def guarded(run: Run) -> Result:
    """Run, and write down how it ended whatever happens."""
    try:
        with run.processes.interrupts().listening() as interrupts:
            return run.conduct(interrupts)
    except BaseException as error:
        cause = run.processes.cause(error)
        meant = as_user_error(cause, run.order.recipe, run.folder.path) or cause
        run.status.ended_by(meant)
        if meant is not error:
            raise meant from error
        raise


class Run:
    """The stages of one run, in order; each method is one of them.

    Args:
        order: what to run and how.
        folder: of the run.
        display: shows and logs.
        latest: what a resumed run goes on from; None for a new one.
        processes: that all run it; the first writes.
    """

    def __init__(
        self, order: Order, folder: RunFolder, display: Display, latest: Latest | None, processes: Processes
    ) -> None:
        self.order, self.folder, self.processes = order, folder, processes
        self._display, self._latest = display, latest
        self._state = None if latest is None else latest.state
        self._recipe, self._log = order.recipe, display.line
        self._environment: dict[str, Any] = {}
        self._warnings = list(order.warnings)
        if latest is not None and isinstance(kept := folder.read_json("summary.json").get("warnings"), list):
            # resolved.yaml, which a resume reads, has no more what some were about.
            more = order.warnings if order.recipe.overrides else ()
            self._warnings = list(dict.fromkeys([*map(str, kept), *more]))
        self.status = RunStatus(
            folder, self._log, fast=order.recipe.fast, resumed=latest is not None, again=processes.again
        )

    def conduct(self, interrupts: Interrupts) -> Result:
        """Run all stages."""
        self._interrupts = interrupts
        names = catalogue(self._recipe.plugins)
        for plugin in find_plugins(self._recipe.plugins):
            self._log(f"plug-in {plugin.name}: its code runs with your rights")
        sinks, callbacks = build_callbacks(self._recipe, names)
        callbacks = [*callbacks, *self.order.callbacks]
        history = () if self._state is None else history_in(self._state["progress"])
        chain = Chain(None if self._state is None else self._state.get("chain"))
        metrics = MetricsFile(self.folder.metrics, self._log, history, chain)
        written = [metrics, *sinks, self._display]
        if not self.processes.is_first:
            written, callbacks = [], []
        recorder = Recorder(written, self._log, pulse=self._display.pulse)
        with self._interrupts.at_once():  # nothing is trained yet
            experiment = self._experiment(names)
            self._accept()
            self._forecast(experiment)
            finding = self._find_lr(experiment)
            self._write_resolved(experiment, finding)
        # A resume drops what its checkpoint does not know: when all is well.
        recorder.open(self._info(experiment, finding))
        try:
            if finding is not None:
                curve = Curve(finding.lrs, finding.losses, "learning rate", "loss", x_log=True)
                recorder.curve("lr_finder/loss", curve)
            fitted = self._fit(experiment, callbacks, recorder, chain)
            with self._interrupts.at_once():  # all that was trained is saved
                outcomes = self._evaluate(experiment, fitted)
                validated = self._validated(experiment, outcomes)
                calibration = self._calibrate(experiment, fitted, outcomes, validated)
                if not self.processes.is_first:
                    return Result(self.folder, {}, (), 0)
                self._keep_predictions(experiment, outcomes)
                summary = {**self._summary(experiment, fitted, outcomes, finding), "calibration": calibration}
                recorder.result(verdicts_table.numbers(summary))
                return self._report(experiment, fitted, outcomes, validated, finding, summary, recorder)
        finally:
            recorder.close()

    # ---------------------------------------------------------------------------------------------------------- stages
    def _accept(self) -> None:
        """Begin to write: recipe, data and model fit together, and to what a resumed run has done."""
        self.status.accepted(self._warnings, self.order.not_judged)
        self._display.log_to(self.folder.path / "log.txt")
        if self._latest is not None:
            self._latest.put_aside(below=self.folder.path)
            if self._state is not None and self.processes.is_first:
                put_best_back(self.folder.checkpoints, self._state["progress"], below=self.folder.path)
            done = 0 if self._state is None else self._state["progress"]["epoch"]
            self._environment = with_earlier(self._environment, self.folder.read_json("environment.json"), done)
        self.folder.write_json("environment.json", self._environment)

    def _info(self, experiment: Experiment, finding: LRFinding | None) -> RunInfo:
        progress = None if self._state is None else self._state["progress"]
        return RunInfo(
            name=self._recipe.name,
            folder=self.folder.path,
            epochs=self._recipe.train.epochs,
            hparams=hparams(self._recipe, experiment.facts, found=None if finding is None else finding.lr),
            resumed_epoch=0 if progress is None else progress["epoch"],
            resumed_step=0 if progress is None else progress["step"],
            history=() if progress is None else tuple(history_in(progress)),
        )

    def _experiment(self, names: Catalogue) -> Experiment:
        trained = (
            None if self._state is None else Trained.of(self.folder.checkpoints / "last.pt", self._recipe, self._state)
        )
        said: list[str] = []

        def log(text: str) -> None:
            said.append(text)
            self._log(text)

        experiment = Experiment.from_recipe(
            self._recipe, names, log=log, trained=trained, processes=self.processes, say=self._display.say
        )
        self._say_apart(said)
        told = [text.removeprefix("warning: ") for text in said if text.startswith("warning: ")]
        self._warnings = list(dict.fromkeys([*self._warnings, *told]))
        if trained is not None:  # the code of a plug-in may have changed since
            trained.load_into(experiment.model)
        precision = experiment.describe_precision()
        self._environment = {
            **describe_environment(experiment.device, precision, self.order.command),
            **self.processes.described(self._recipe.data.batch_size),
        }
        self._require_same_data(experiment)
        if self._state is not None:
            hold_against(self._state, experiment.data, self._environment["packages"], self._log)
        self._log(f"device {device_name(experiment.device)}; precision {precision}; channels_last")
        for line in (*processes_lines(self._environment), *experiment.transform_lines()):
            self._log(line)
        mix = self._recipe.train.mix
        if mix is not None and mix.arguments.get("p") != 0:
            self._log(f"{mix.type} mixes training images: {MIXED_NUMBERS}")
        self._hold_against_data(experiment, names)
        return experiment

    def _say_apart(self, said: Sequence[str]) -> None:
        """Write down what only this process had to say while it read the data."""
        heard = set(self.processes.said_by_first(said))
        for text in said:
            if text not in heard:
                self._display.say(text)

    def _require_same_data(self, experiment: Experiment) -> None:
        """Refuse processes that have read other images, or have other metrics than can be taken over all."""

        def facts() -> dict[str, str]:
            read = {"device": experiment.device.type, "classes": short_digest(repr(experiment.data.class_names))}
            for part, known in fingerprint(experiment.data).items():
                read |= {f"{part} images ({what})": digest for what, digest in known.items()}
            return read

        self.processes.require_same(facts, DataError, "give all of them the same images")
        self.processes.require_mergeable(experiment.evaluation_metrics())

    def _hold_against_data(self, experiment: Experiment, names: Catalogue) -> None:
        """Refuse what only the data can show to be wrong, before anything is trained."""
        resumed, read = self._state is not None, known_from(experiment.data)
        found = check_data(self._recipe, names, read, experiment.data.class_names, resumed=resumed)
        errors = [each for each in found if each.severity == "error"]
        for each in found:
            if each.severity == "warning":
                self._log(f"warning: {each.said}")
                known = (*self.order.warnings, *self._warnings)
                self._warnings += [each.said] if not {each.text, each.said} & set(known) else []
        if errors:
            raise RecipeError(f"{self._recipe.file} does not fit its data\n{render(errors)}")

    def _forecast(self, experiment: Experiment) -> None:
        step = seconds_per_step(experiment)
        finder = self._recipe.lr_finder
        searches = finder is not None and self.folder.read_finding() is None
        steps, epochs = experiment.steps_per_epoch, self._recipe.train.epochs
        done = 0 if self._state is None else self._state["progress"]["step"] / max(steps, 1)
        left = max(0.0, epochs - done)
        total = total_seconds(experiment, step, finder.steps if finder is not None and searches else 0, left)
        first = f"LR finder {finder.steps} steps, then " if finder is not None and searches else ""
        which = f"{left:.3g} of {counted(epochs, 'epoch')} left" if done else counted(epochs, "epoch")
        if left:
            self._log(f"{first}{which} x {counted(steps, 'step')} x {step:.3g} s: about {duration(total)}")
        self._display.plan(epochs=epochs, steps_per_epoch=steps, images_per_step=experiment.images_per_step)

    def _find_lr(self, experiment: Experiment) -> LRFinding | None:
        section = self._recipe.lr_finder
        finding = self.processes.said_by_first(self.folder.read_finding())
        if finding is None and section is None:
            return None
        if finding is None:
            assert section is not None
            with self._display.bar():
                finding = find_lr(
                    experiment,
                    section,
                    assume=self.order.recipe.fast,
                    interrupts=self._interrupts,
                    progress=self._display.sweep,
                )
            self.folder.write_finding(finding, section)
        found = finding
        experiment.facts.define("lr_finder.lr", lambda: required_lr(found))
        self._tell_finding(found)
        return found

    def _tell_finding(self, finding: LRFinding) -> None:
        named = ", ".join(f"{name} {lr:.3g}" for name, lr in finding.picks.items() if lr is not None)
        if finding.status == "inconclusive":
            if isinstance(self._recipe.optimizer.arguments["lr"], Reference):
                required_lr(finding)
            self._log(f"warning: the LR finder is inconclusive: {finding.reason}")
        elif finding.status == "assumed":
            self._log(f"LR finder: no answer from so few steps; sqrt(start*end) = {finding.lr:.3g} is assumed")
        else:
            taken = f"{finding.lr:.4g} ({finding.pick}, loss {finding.loss:.4f}, {duration(finding.seconds)})"
            self._log(f"LR finder: {taken}; {named}")

    def _write_resolved(self, experiment: Experiment, finding: LRFinding | None) -> None:
        """Write resolved.yaml with what the data told; a resume that changes nothing leaves it, with all its marks."""
        if self._state is not None and not self._recipe.overrides:
            return
        lr = finding.lr if finding is not None else None
        text = resolved_yaml(self._recipe, facts=experiment.facts, lr=lr, fast_limit=fast_limit(self._recipe))
        self.folder.write_text(RESOLVED, text)

    def _fit(self, experiment: Experiment, callbacks: Any, recorder: Recorder, chain: Chain) -> FitResult:
        resolved = self.processes.made_by_first(lambda: self.folder.resolved.read_text(encoding="utf-8"))
        facts = to_keep(
            resolved,
            self._recipe,
            experiment.data,
            class_counts=experiment.class_counts,
            input_shape=experiment.input_shape,
            facts=experiment.facts.known(also=(self._state or {}).get("facts", ())),
            packages=self._environment["packages"],
        )
        chain.begin(recipe=recipe_digest(resolved), data=learnt_from(facts["data"]))
        with self._display.bar():
            result = fit(
                experiment,
                callbacks,
                recorder,
                self._interrupts,
                self.folder.checkpoints,
                facts,
                chain=chain,
                state=self._state,
                ask_again=self._state is not None and callbacks_changed(self._state, resolved),
                log=self._log,
                below=self.folder.path,
            )
        if result.progress.stopped:
            self._log(result.progress.stopped)
        return result

    def _evaluate(self, experiment: Experiment, fitted: FitResult) -> dict[str, Outcome]:
        """Evaluate the final weights, then the best where there are any; the model keeps those evaluated last."""
        which: Which = "test" if self._measures_test(experiment) else "val"
        tta = self._recipe.train.tta
        between = self._interrupts.check
        final = evaluate_weights(experiment, which, fitted.final, tta=tta, between=between)
        best_row = fitted.progress.best
        if best_row is None:
            metric = self._recipe.train.best.metric
            lacks = f"no epoch has both a finite validation loss and a finite {metric}"
            self._log(f"warning: {lacks}: there are no best weights, and the final ones are reported")
            return {"final": final}
        if best_row["epoch"] == fitted.progress.epoch:
            return {"final": final, "best": final}
        epoch, folder = best_row["epoch"], self.folder.checkpoints
        weights = self.processes.made_by_first(lambda: best_weights(folder, epoch))
        return {"final": final, "best": evaluate_weights(experiment, which, weights, tta=tta, between=between)}

    def _validated(self, experiment: Experiment, outcomes: Mapping[str, Outcome]) -> Predictions | None:
        """Return the answers of the reported weights, which the model has, to validation; None beside the first."""
        if self._measures_test(experiment):
            return evaluate_weights(experiment, "val", between=self._interrupts.check).predictions
        return outcomes.get("best", outcomes["final"]).predictions

    def _calibrate(
        self,
        experiment: Experiment,
        fitted: FitResult,
        outcomes: Mapping[str, Outcome],
        answers: Predictions | None,
    ) -> dict[str, Any] | None:
        """Fit the temperature of the reported weights on their answers to validation; None without."""
        which = "best" if "best" in outcomes else "final"
        if answers is None:
            return None
        row, last = fitted.progress.best, fitted.progress.epoch
        epoch = row["epoch"] if which == "best" and row is not None else last
        return calibrate(answers, experiment.data.selected_on).as_json(which, epoch)

    def _keep_predictions(self, experiment: Experiment, outcomes: Mapping[str, Outcome]) -> None:
        """Keep the reported answers, to compare runs by; without them a run is as good."""
        predictions = outcomes.get("best", outcomes["final"]).predictions
        assert predictions is not None  # the first process has them
        data = experiment.data
        measured = data.test if self._measures_test(experiment) else None
        part, split = (data.val, data.selected_on) if measured is None else (measured, "test")
        kept = predictions_file.kept_of(predictions, part, split, data.class_names)
        try:
            predictions_file.write(kept, self.folder.path)
        except OSError as error:
            self._log(f"warning: the predictions could not be kept, by which runs are compared ({error.strerror})")

    def _measures_test(self, experiment: Experiment) -> bool:
        return experiment.data.test is not None and not self.order.spares_test

    def _summary(
        self, experiment: Experiment, fitted: FitResult, outcomes: Mapping[str, Outcome], finding: LRFinding | None
    ) -> dict[str, Any]:
        progress, data = fitted.progress, experiment.data
        trained_on = made_on(self._environment, progress.epoch)
        tested = self._measures_test(experiment)
        rows = {"best": progress.best, "final": progress.history[-1] if progress.history else None}
        best = self._recipe.train.best
        summary: dict[str, Any] = {"status": "completed", "metric": best.metric, "mode": best.mode}
        summary["selected_on"] = data.selected_on
        for name, row in rows.items():
            values = {} if tested or name not in outcomes else outcomes[name].values
            measured = {f"val/{key}": value for key, value in values.items() if key.startswith("tta/")}
            summary[name] = None if row is None else {**row, **measured}
        if tested:
            summary["test"] = {name: dict(outcome.values) for name, outcome in outcomes.items()}
        if finding is not None:
            kept = ("lr", "loss", "pick", "picks", "status", "seconds")
            summary["lr_finder"] = {key: getattr(finding, key) for key in kept}
        summary |= {
            "seconds": progress.seconds,
            "epochs": progress.epoch,
            "steps": progress.step,
            "stopped": progress.stopped,
            "out_of_time": progress.out_of_time,
            "skipped_steps": progress.skipped,
            "device": trained_on["device"],
            "precision": trained_on["precision"],
            "seed": self._recipe.seed,
            "fast": self.order.recipe.fast,
            "warnings": list(self._warnings),
            "images": {part.name: len(part) for part in (data.train, data.val, data.test) if part is not None},
            "fingerprint": {
                part: short_digest(repr(sorted(known.items()))) for part, known in fingerprint(data).items()
            },
            "parameters": sum(p.numel() for p in experiment.model.parameters()),
        }
        return summary

    def _write_page(
        self,
        experiment: Experiment,
        fitted: FitResult,
        outcomes: Mapping[str, Outcome],
        validated: Predictions | None,
        finding: LRFinding | None,
        summary: dict[str, Any],
        recorder: Recorder,
    ) -> None:
        """Write the report and what it found into `summary`; a page that fails must not fail a good run."""
        self._log("writing the report ...")
        try:
            evidence = gather(
                experiment,
                self.folder.path,
                recorder=recorder,
                given=self.folder.read_given(),
                resolved=self.folder.resolved.read_text(encoding="utf-8"),
                history=fitted.progress.history,
                best=fitted.progress.best,
                predictions=outcomes.get("best", outcomes["final"]).predictions,
                finding=finding,
                summary=summary,
                environment=of_training(self._environment, fitted.progress.epoch),
                warnings=self._warnings,
                audit=audit_of_run(experiment, validated),
            )
            summary["report"] = dict(write_report(evidence, experiment.report, log=self._log).facts)
        except Exception as error:
            summary["report_error"] = f"{type(error).__name__}: {error}"
            self._log(f"warning: the report could not be written ({summary['report_error']})")

    def _report(
        self,
        experiment: Experiment,
        fitted: FitResult,
        outcomes: Mapping[str, Outcome],
        validated: Predictions | None,
        finding: LRFinding | None,
        summary: dict[str, Any],
        recorder: Recorder,
    ) -> Result:
        verdicts = judge(self._recipe.expect, fitted.progress.history, summary) if self._recipe.expect else []
        if verdicts:
            summary["expect"] = {
                "not_judged": self.order.not_judged,
                "lines": [
                    {"text": str(v.expectation.text), "value": v.value, "ok": v.ok}
                    | {"low": v.expectation.low, "high": v.expectation.high}
                    for v in verdicts
                ],
            }
        if self.order.page:
            self._write_page(experiment, fitted, outcomes, validated, finding, summary, recorder)
        recorder.flush()  # a run that is complete is not looked at again
        self.folder.write_json("summary.json", summary)
        rows = verdicts_table.ending(summary, self._recipe.train.best.metric, self.folder.path)
        if not self.order.page:
            del rows["report"]
        rows.update(verdicts_table.rows(verdicts, self.order.not_judged))
        self._display.table(rows)
        return Result(self.folder, summary, verdicts, verdicts_table.exit_code(verdicts, self.order.not_judged))
