"""One training run from files to files: what both command lines call."""

from __future__ import annotations

from pathlib import Path

from DALAnomalyLib.device import resolve_device
from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.job.result_folder import writing
from DALAnomalyTraining.export import export
from DALAnomalyTraining.pack import Pack
from DALAnomalyTraining.trainer import Hardware, Trainer
from DALAnomalyTraining.training_config import load_training_config


def train(
    config: Path,
    data: Path,
    output: Path,
    resume: bool = False,
    accelerator: str = "auto",
    devices: int = 1,
    until: int | None = None,
    quiet: bool = False,
    start: Path | None = None,
) -> None:
    """Train as `config` says on the pack `data`, keep everything in `output`, and export its best model there.

    A finished run that is resumed keeps its model, which may have been calibrated since.

    Args:
        config: YAML, see `training_config`.
        data: The pack.
        output: Folder of the run; `model.dalmodel` appears in it when the last step is done.
        resume: Continue from the last checkpoint in `output`.
        accelerator: auto, cpu or cuda.
        devices: Processes.
        until: Stop after this many steps of the whole run.
        quiet: No progress bar and no last word.
        start: Checkpoint of another run, or model file, whose weights and landmarks this one begins with.

    Raises:
        DeviceError: There is no such device.
        UsageError: The options contradict one another, or the data cannot be trained on in this way.
        OutputError: `output` holds a run already, cannot be written, or the disk is full.
    """
    device = resolve_device(accelerator)
    if ":" in accelerator:
        msg = f"--device {accelerator} names one card; say cuda, and which cards there are with CUDA_VISIBLE_DEVICES"
        raise UsageError(msg)
    if devices < 1:
        msg = f"--devices is {devices}; it must be at least 1"
        raise UsageError(msg)
    pack = Pack(data)
    trainer = Trainer(load_training_config(config), pack, output, Hardware(device.type, devices))
    with writing(output):
        done = trainer.fit(resume, until, quiet, start)
        finished = trainer.step >= trainer.config.steps
        if not trainer.fabric.is_global_zero:
            return
        best, model = output / "best.pt", output / "model.dalmodel"
        if finished and (done or not model.exists()):
            # a run that only ever collapsed has no best
            export(best if best.exists() else output / "last.pt", pack, model)
    if not quiet:
        print(f"{model}: finished" if finished else f"{output}: stopped at step {trainer.step}, --resume goes on")
