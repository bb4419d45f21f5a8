"""Decode the images of requests in threads, ready for the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from lpt.data.budget import ByteBudget, Turn
from lpt.data.decoding import ImageError, Reading, read_image
from lpt.data.faulty import TOO_LARGE
from lpt.errors import ConfigError
from lpt.packs.prediction import Prepared
from lpt.serving.batcher import Job
from lpt.serving.faults import Fault
from lpt.serving.shelf import Served
from lpt.system.limits import usable_cores

Find = Callable[[str], Served]
"""Looks a pack up by its name; a Fault of status 404 if it is gone."""


class Decoder:
    """Threads that decode and transform images; their pictures together take at most the bytes of `data.budget`.

    Args:
        max_pixels: most pixels of an image.
        find: looks a pack up.
    """

    def __init__(self, max_pixels: int, find: Find) -> None:
        self._max_pixels, self._find = max_pixels, find
        self.budget = ByteBudget()
        self._pool = ThreadPoolExecutor(usable_cores(), thread_name_prefix="lpt-decode")

    def close(self) -> None:
        """Decode what was accepted, then end the threads."""
        self._pool.shutdown()

    def submit(
        self, job: Job, images: Sequence[tuple[str, bytes]], packs: Sequence[str], *, attention: bool = False
    ) -> None:
        """Decode images for packs and let them wait for the network; an image that cannot be read ends the job.

        Args:
            job: has a place for each image of the first pack, then of the second, ...
            images: names and bytes.
            packs: names of the packs.
            attention: give the attention of the class token too.
        """
        waiting = dict(enumerate(images))
        job.future.add_done_callback(lambda _: waiting.clear())  # tasks of an ended job stay in the pool for a while
        for number in range(len(images)):
            self._pool.submit(self._decode, job, waiting, number, len(images), packs, attention)

    def _decode(
        self,
        job: Job,
        waiting: dict[int, tuple[str, bytes]],
        number: int,
        count: int,
        packs: Sequence[str],
        attention: bool,
    ) -> None:
        image = waiting.pop(number, None)
        if image is None:
            return
        pictures: dict[float | None, Image.Image] = {}
        try:
            with self.budget.queue() as turn:
                for block, pack in enumerate(packs):
                    if job.ended:
                        return
                    served = self._find(pack)
                    white = served.pack.info.preprocessing.white
                    if white not in pictures:
                        pictures[white] = self._read(image, white, turn)
                    served, item = self._prepared(served, pictures[white], number)
                    job.put(block * count + number, served.predictor, item, attention=attention)
        except Exception as error:
            job.fail(error)

    def _prepared(self, served: Served, picture: Image.Image, number: int) -> tuple[Served, Prepared]:
        """Transform a picture for a pack, which may just be replaced by one on another backbone."""
        try:
            return served, served.predictor.prepare(picture, pack=served.name, number=number)
        except ConfigError:
            served = self._find(served.name)
            return served, served.predictor.prepare(picture, pack=served.name, number=number)

    def _read(self, image: tuple[str, bytes], white: float | None, turn: Turn) -> Image.Image:
        name, content = image
        try:
            return read_image(content, name, Reading(max_pixels=self._max_pixels, white=white), turn)
        except ImageError as error:
            if error.reason.startswith(TOO_LARGE):
                raise Fault(
                    413,
                    f"{name}: the image has too many pixels; at most {self._max_pixels:,} are accepted. Make it "
                    "smaller.",
                    code="too_many_pixels",
                ) from None
            reason = error.reason.partition("; --bad-images")[0]
            raise Fault(
                422,
                f"{name}: cannot be read as an image: {reason}. Replace it, or leave it out.",
                code="unreadable_image",
            ) from None
