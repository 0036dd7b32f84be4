"""`dal-anomaly model info`: what a model file or a preset is, how large, and what a scan costs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from DALAnomalyCLI import option, reporting
from DALAnomalyLib.errors import UsageError
from DALAnomalyLib.job import manifest

if TYPE_CHECKING:
    from rich.table import Table

    from DALAnomalyLib.configuration import ModelConfig

SHIPPED = "the shipped model"


def info(
    file: Annotated[
        Path | None, typer.Argument(readable=False, help="Model file; without one, the model that is shipped.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="A configuration instead of a file: paper, default or tiny.")
    ] = None,
    as_json: option.JsonObject = False,
    debug: option.Debug = False,
) -> None:
    """Show the metadata, digest, parameters and operations (FLOPs) of a model."""
    reporter = reporting.make_reporter(as_json=as_json, debug=debug)
    with reporting.exit_with_message(reporter):
        if file is not None and preset is not None:
            msg = f"both the file {file.name} and --preset {preset} are given; name one of them"
            raise UsageError(msg)
        record = describe_preset(preset) if preset is not None else describe_file(file)
        reporter.result(str(file) if file else preset or SHIPPED, manifest.plain(record), _shown(record))


def describe_preset(name: str) -> dict[str, Any]:
    """Configuration and cost of a preset."""
    from DALAnomalyLib.configuration import preset

    config = preset(name)
    return {"name": config.name, **_configuration(config), **_cost(config)}


def describe_file(path: Path | None) -> dict[str, Any]:
    """Identity, configuration, cost and history of a model file, or of the shipped one."""
    from DALAnomalyLib.configuration import to_dictionary
    from DALAnomalyLib.model_store import load_model

    model = load_model(path)
    metadata = model.metadata
    return {
        "name": metadata.config.name,
        "version": metadata.version,
        "sha256": model.digest,
        **_configuration(metadata.config),
        "thresholds": metadata.thresholds,
        "calibration": {name: to_dictionary(value) for name, value in metadata.calibration.items()},
        **_cost(metadata.config),
        "training": metadata.training,
    }


def _configuration(config: ModelConfig) -> dict[str, Any]:
    from DALAnomalyLib.configuration import to_dictionary

    return {
        "sequences": list(config.network.sequences),
        "grid_shape_kji": list(config.grid.shape),
        "grid_spacing_ijk_mm": list(config.grid.spacing),
        "score": to_dictionary(config.score),
        "network": to_dictionary(config.network),
    }


def _cost(config: ModelConfig) -> dict[str, Any]:
    from DALAnomalyLib.network.cost import network_cost

    cost = network_cost(config)
    return {
        "parameters": {**cost.parameters, "all": cost.all_parameters, "inference": cost.inference_parameters},
        "inference_flops": cost.inference_flops,
    }


def _shown(record: dict[str, Any]) -> Table:
    """The record for people: one line per entry, nested entries indented by their path."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, show_header=False, show_edge=False, pad_edge=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in _lines({**record, **_readable_calibration(record)}):
        table.add_row(name, _readable(name, value))
    return table


def _readable_calibration(record: dict[str, Any]) -> dict[str, Any]:
    """A line for every preset of a model file; nothing of a configuration, which has none."""
    if "calibration" not in record:
        return {}
    if not record["calibration"]:
        return {"calibration": "none; `dal-anomaly calibrate` makes one from healthy scans"}
    return {"calibration": {name: _readable_presets(entry) for name, entry in record["calibration"].items()}}


def _readable_presets(entry: dict[str, Any]) -> dict[str, Any]:
    presets = {
        name: (
            f"{preset['threshold']:.4g} (90 %: {preset['threshold_interval'][0]:.4g} to "
            f"{preset['threshold_interval'][1]:.4g}), {preset['false_positive_ml']:.2f} ml (90 %: "
            f"{preset['false_positive_ml_interval'][0]:.2f} to {preset['false_positive_ml_interval'][1]:.2f}) and "
            f"{preset['false_positives_per_scan']:.2f} findings per healthy scan"
            + ("" if preset["left_out_ml"] is None else f", {preset['left_out_ml']:.2f} ml in one left out")
        )
        for name, preset in entry["presets"].items()
    }
    about = {"score": f"{entry['score']['kind']}, {entry['score']['sign']}"}
    about |= {name: entry[name] for name in ("source", "scans", "minimum_finding_ml")}
    return {**presets, **about, **({"warnings": "; ".join(entry["warnings"])} if entry["warnings"] else {})}


def _lines(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [line for key, item in value.items() for line in _lines(item, f"{path}.{key}" if path else str(key))]
    return [(path, value)]


def _readable(name: str, value: Any) -> str:
    if name == "inference_flops":
        return f"{value / 1e9:,.3f} GFLOP per pass"
    if isinstance(value, list | tuple):
        return (
            " x ".join(_readable("", item) for item in value) if name.startswith("grid") else ", ".join(map(str, value))
        )
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
