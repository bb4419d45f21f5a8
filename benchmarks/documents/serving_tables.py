"""Make the tables of docs/how-to/deployment.md from the committed result files, for `benchmarks.documents.tables`."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.documents.performance_tables import Result, from_file, rows_of


def packs(result: Result) -> list[str]:
    """Return start, load time and mixed rate for numbers of packs, then memory."""
    cells = []
    for row in result["at"]:
        start, rates = row["start"], row["rates"]
        share = rates["mixed_over_alone"]
        cells.append(
            [
                f"{row['packs']:,}",
                f"{start['seconds']['packs']:.1f} s",
                f"{start['load_milliseconds']['median']:.0f} ms",
                f"{rates['images_per_second']['alone']:.1f}",
                f"{rates['images_per_second']['mixed']:.1f}",
                f"**{share['measured']:.2f}**",
                f"{share['range'][0]:.2f} to {share['range'][1]:.2f}",
            ]
        )
    heading = ["packs", "all loaded after", "a pack verified", "alone, images/s", "mixed, images/s", "ratio", "range"]
    memory, changing = result["memory"], result["changing"]
    calls = changing["seconds_a_call"]
    return [
        *rows_of(heading, cells),
        "",
        f"A batch of 32 holds images of packs of {len(result['kinds'])} kinds that differ in classes, prompt length, "
        "pool, shared blocks, head and adapters. *Alone* is the same images, pack by pack in full batches.",
        "",
        f"Memory: {memory['packs_a_gib']['measured']:,} packs of LPT's default sizes and 100 classes fit into a GiB "
        f"({memory['packs_a_gib']['counted']:,} by counting their tensors), and {memory['tuned_models_a_gib']:,} "
        "fine-tuned models.",
        "",
        f"While {changing['packs_added']:,} packs were added and removed, {changing['failed_calls']} predictions "
        f"failed and {changing['wrong_predictions']} were wrong. The longest call took "
        f"{calls['while_packs_change']['longest']:.2f} s then, and {calls['quiet']['longest']:.2f} s without.",
    ]


def engine(result: Result) -> list[str]:
    """Return start, memory and rate of both engines."""
    rate, aims = result["rate"], result["aims"]
    cells = [
        [
            name,
            f"{result['start'][name]['best_seconds']:.2f} s",
            f"{result['start'][name]['median_seconds']:.2f} s",
            f"{result['start'][name]['resident_mb']:.0f} MB",
            f"{rate[f'{name}_images_per_second']:.1f}",
        ]
        for name in ("onnx", "torch")
    ]
    heading = ["engine", "start, best", "start, median", "memory", "images/s, best"]
    return [
        *rows_of(heading, cells),
        "",
        f"Start: from the process to the first prediction, with {result['settings']['packs']} packs "
        f"(aims for onnx: {aims['start_seconds']} s and {aims['resident_mb']} MB). ONNX Runtime against PyTorch, in "
        f"turns: {rate['onnx_over_torch_median']:.2f}. The install with ONNX Runtime takes {result['install_mb']:.0f} "
        f"MB (aim: {aims['install_mb']}), the exported backbone {result['exported_mb']['backbone.onnx']:.0f} MB.",
    ]


def load(result: Result) -> list[str]:
    """Return the rate of the server against the predictor, and the times of answers."""
    cells = [
        [
            row["clients"],
            f"{row['predictor_images_per_s']:.1f}",
            f"{row['server_images_per_s']:.1f}",
            f"**{row['ratio_median']:.2f}**",
            f"{row['p50_s']:.2f} s",
            f"{row['p99_s']:.2f} s",
            f"{row['p99_bound_s']:.2f} s",
        ]
        for row in result["clients"]
    ]
    heading = ["clients", "predictor, images/s", "server, images/s", "ratio", "median", "p99", "p99, aim at most"]
    settings = result["settings"]
    return [
        *rows_of(heading, cells),
        "",
        f"{settings['pictures']}, input {settings['input_size']}; {settings['rounds']} rounds of "
        f"{settings['images_per_turn']} images in turns, medians. Both sides decode. Aim: a ratio of "
        f"{settings['aims']['ratio']}.",
    ]


def faults(result: Result) -> list[str]:
    """Return what happened under hostile requests, replaced packs, slow clients and clients that leave."""
    hostile, replaced, slow, left = (result[name] for name in ("hostile", "replaced", "slow", "leavers"))
    memory, wrong = hostile["resident_mb_after_each_tenth"], sum(hostile["wrong_statuses"].values())
    head, body = slow["slow_head"], slow["slow_body"]
    others = ", ".join(f"{count} answered with {status}" for status, count in slow["other_requests"].items())
    cells = [
        [
            f"{hostile['requests']:,} requests, 5 % of them of {hostile['kinds_of_hostile_requests']} hostile kinds",
            f"{wrong} wrong statuses, {result['tracebacks_in_log']} tracebacks; memory {memory[0]:.0f} to "
            f"{memory[-1]:.0f} MB; descriptors {hostile['descriptors_before']} to {hostile['descriptors_after']}",
        ],
        [
            f"a pack replaced {replaced['replacements']} times under load",
            f"{replaced['failed']} of {replaced['requests']:,} requests failed; longest {replaced['longest_s']:.2f} s",
        ],
        [
            "clients that send a byte now and then",
            f"head: {head['status']} after {head['after_s']:.0f} s; body: {body['status']} after "
            f"{body['after_s']:.0f} s; others meanwhile: {others}, longest {slow['longest_other_s']:.2f} s",
        ],
        [
            f"{left['clients']} clients that leave",
            f"{left['queued_after']:.0f} of their images wait on; the next request: {left['status_of_next_request']}",
        ],
        ["SIGTERM at the end", f"exit code {result['exit_code']}"],
    ]
    return rows_of(["what", "what happened"], cells)


def web(result: Result) -> list[str]:
    """Return the seconds for an image in the browser."""
    seconds = result["seconds_per_image"]
    heading = ["median", "least", "most", "decode and resize", "network", "page ready after"]
    names = ("median", "least", "most", "decode_and_resize", "network")
    cells = [[*(f"{seconds[name]:.2f} s" for name in names), f"{result['ready_seconds']:.1f} s"]]
    return [
        *rows_of(heading, cells),
        "",
        f"{result['backbone']} at {result['size']}, {result['images']} pictures in Chromium "
        f"{result['chromium']} on {result['cores_of_the_browser']} cores (aim: {result['aim_seconds_per_image']} s). "
        f"The folder takes {result['bytes']['all'] / 1e6:.0f} MB.",
    ]


TABLES: dict[str, Callable[[], str]] = {
    "serving_packs": from_file("serving_packs", packs),
    "serving_engine": from_file("serving_engine", engine),
    "serving_load": from_file("serving_load", load),
    "serving_faults": from_file("serving_faults", faults),
    "serving_web": from_file("serving_web", web),
}
