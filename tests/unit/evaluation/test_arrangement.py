"""What is alike lies side by side; the plane is that of an independent SVD."""

from __future__ import annotations

import numpy as np

from lpt.evaluation.arrangement import class_order, principal_plane, prompt_order


def test_classes_and_prompts_that_go_together_become_neighbours() -> None:
    """Three blocks of classes with prompts of their own, shuffled: each block is found again as neighbours."""
    rng = np.random.default_rng(0)
    block_of_class, block_of_prompt = np.repeat([0, 1, 2], 5), np.repeat([0, 1, 2], 2)
    use = np.where(block_of_class[:, None] == block_of_prompt, 0.5, 0.0) + rng.uniform(0, 0.01, (15, 6))
    rows, columns = rng.permutation(15), rng.permutation(6)
    shuffled = use[rows][:, columns]
    prompts = prompt_order(shuffled)
    classes = class_order(shuffled, prompts)
    assert sorted(prompts.tolist()) == list(range(6))
    assert sorted(classes.tolist()) == list(range(15))
    for blocks in (block_of_prompt[columns[prompts]], block_of_class[rows[classes]]):
        assert (np.diff(blocks) != 0).sum() == 2


def test_classes_without_picks_come_last() -> None:
    use = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    prompts = prompt_order(use)
    assert class_order(use, prompts)[-1] == 0


def test_the_plane_is_that_of_the_largest_singular_vectors() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(60, 8)) * np.array([5, 3, 1, 1, 1, 1, 1, 1]) + 2
    plane = principal_plane(vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    u, s, _ = np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(plane.points), np.abs(u[:, :2] * s[:2]), atol=1e-10)
    np.testing.assert_allclose(plane.explained, s[:2] ** 2 / (s**2).sum())
    np.testing.assert_allclose(principal_plane(7 * vectors).points, plane.points)  # length does not count


def test_equal_vectors_lie_in_one_point() -> None:
    plane = principal_plane(np.ones((4, 3)))
    np.testing.assert_allclose(plane.points, 0)
