"""What `lpt tune` is asked for, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpt.commands.fit.request import Config, Data, RunRequest, gather_values
from lpt.commands.tune.space import SEARCHES
from lpt.commands.tune.splits import MOST_SPLITS
from lpt.config.values import Settings, by_path
from lpt.errors import ConfigError

BUDGET = 60.0
"""Minutes of a search, unless others are given."""


@dataclass(frozen=True)
class TuneRequest:
    """A search that a user asks for.

    Args:
        data: as for `lpt.fit`.
        output: the folder of the search; one that is there is gone on with.
        budget: minutes for everything: trials, and the final training of the chosen settings and of the preset.
        search: one of `lpt.commands.tune.space.SEARCHES`.
        trials: most trials; None: as many as fit.
        splits: validation splits of each trial; None: as many as the rare classes need and the budget holds.
        preset, method, config: as for `lpt.fit`.
        settings: likewise; fields that are given here are not searched.
        overwrite: remove the search that is in `output`.
        ray: train trials and final runs on the machines of a Ray cluster.
    """

    data: Data | None = None
    output: Path = Path("tuned")
    budget: float = BUDGET
    search: str = "all"
    trials: int | None = None
    splits: int | None = None
    preset: str | None = None
    method: str | None = None
    config: Config | None = None
    settings: Settings = ()
    overwrite: bool = False
    ray: bool = False

    @property
    def run(self) -> RunRequest:
        """The run of the preset, on all training images; a search of the second phase is of LPT with both."""
        phases = 2 if self.search == "phase2" and self.method is None else None
        return RunRequest(self.data, None, self.preset, self.method, self.config, self.settings, phases=phases)

    @property
    def fixed(self) -> set[str]:
        """Dotted paths of the fields that are not searched."""
        return set(by_path(self.settings))

    def values(self) -> dict[str, Any]:
        """Return the user's configuration values.

        Raises:
            ConfigError: a file or setting cannot be read, or no data is given.
        """
        return gather_values(self.run, needs_source=self.run.splits is None)

    def check(self) -> None:
        """Check the numbers and names.

        Raises:
            ConfigError: one is not accepted.
        """
        if not self.budget > 0:
            raise ConfigError(f"--budget {self.budget:g}: give the minutes of the whole search, above 0")
        if self.search not in SEARCHES:
            raise ConfigError(f"--search {self.search}: accepted are {', '.join(SEARCHES)}")
        if self.trials is not None and self.trials < 2:
            raise ConfigError(f"--trials {self.trials}: at least 2 are needed, the preset and another")
        if self.splits is not None and not 1 <= self.splits <= MOST_SPLITS:
            raise ConfigError(f"--splits {self.splits}: give 1 to {MOST_SPLITS}")
        if self.ray and self.run.splits is not None:
            raise ConfigError(
                "--ray: other machines cannot open splits that were opened in Python. Give the source of the images, "
                "such as a folder or a table on a disk that all machines share, or leave --ray out"
            )
