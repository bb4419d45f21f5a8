"""Make the Markdown tables of a record of this benchmark, for `benchmarks.documents.tables`."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]


def cost_table(record: Record) -> str:
    """Return the cost of each part at the full size."""
    opening, share, evaluation = record["opening"], record["sampling_share"], record["evaluation"]
    full = record["drawing"]["by_images"][-1]
    rows = [
        *((f"opening, {name}", "10 s, 1,024 MiB", cost(opening[form])) for form, name in
          (("csv", "CSV"), ("path_list", "`path label` lists"), ("folder", "class folders"))),
        ("a class-balanced draw: first round of the classes / later ones", "O(1)", draw(full["balanced"])),
        ("an instance-balanced draw: likewise", "O(1)", draw(full["instance"])),
        (measured_step(share), "2 %", f"{100 * share['share_of_measured_step']:.2g} %"),
        (calculated_step(share), "2 %", f"{100 * share['share_of_calculated_step']:.2g} %"),
        *((f"`lpt doctor{flag}`, {name}", "", f"{cost(record[key])}, {record[key]['lines']} lines")
          for key, flag, name in
          (("doctor_csv_no_decode", " --no-decode", "CSV"), ("doctor_csv", "", "CSV"),
           ("doctor_folder_no_decode", " --no-decode", "class folders"), ("doctor_folder", "", "class folders"))),
        *((f"`lpt fit`: {name}", "", cost(record["start_of_fit"][key])) for key, name in
          (("prepare_without_reading_images", "data and backbone opened"), ("warn_of_data", "warnings"),
           ("fingerprint", "fingerprint of the data"), ("check_readable", "every image decoded once"))),
        ("metrics of the test set's cosines", "", cost(evaluation["metrics"])),
        ("temperature on as many", "", cost(evaluation["fit_temperature"])),
        ("per_class.csv and plots", "", cost(evaluation["per_class_csv_and_plots"])),
        ("pack for ViT-Ti", "", pack(record["pack"])),
        ("pack for ViT-B", "", f"{record['pack_vit_b']['tensors_mib']:.1f} MiB"),
    ]  # fmt: skip
    return "\n".join(["| what | target | measured |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def growth_table(record: Record) -> str:
    """Return cost against each size: values, fitted slope, and how far the points are off the line."""
    against = record["against"]
    lines = ["| cost | against | values | slope | off the line by at most |", "|---|---|---|---|---|"]
    for what, size, name in (
        ("opening", "train_images", "training images N"),
        ("classes", "classes", "classes C"),
        ("pool_size", "pool_size", "group prompts M"),
        ("prompt_length", "prompt_length", "prompt length P"),
    ):
        points, line = against[what]["points"], against[what]["line"]
        values = ", ".join(f"{point['seconds']:.3g} s at {point[size]:,}" for point in points)
        slope = f"{1e6 * line['slope']:,.1f} µs"
        cost_of = "opening a CSV" if what == "opening" else "a training step"
        lines.append(f"| {cost_of} | {name} | {values} | {slope} | {100 * line['worst_deviation']:.1f} % |")
    return "\n".join(lines)


def cost(part: Record) -> str:
    """Return seconds and peak memory."""
    return f"{part['seconds']:.3g} s, {part['peak_mib']:,.0f} MiB"


def draw(stream: Record) -> str:
    """Return microseconds of a draw, in the first round and later."""
    return f"{stream['first_round_microseconds_a_draw']:.2g} / {stream['microseconds_a_draw']:.2g} µs"


def measured_step(share: Record) -> str:
    """Describe the measured step that the draws are compared with."""
    step = share["measured_step"]
    return (
        f"all draws of a step, of {step['seconds']:.2g} s measured (ViT-Ti, {step['pixels']} pixels, two batches of "
        f"{step['batch_size']}, CPU)"
    )


def calculated_step(share: Record) -> str:
    """Describe the assumed step that the draws are compared with."""
    step = share["calculated_step"]
    return f"calculated: of {step['seconds']:g} s assumed for a card and two batches of {step['batch_size']}"


def pack(measured: Record) -> str:
    """Return the size of a pack, and how much of it is the head."""
    return f"{measured['total_mib']:.2f} MiB, {100 * measured['head_share']:.0f} % of its numbers in the classifier"
