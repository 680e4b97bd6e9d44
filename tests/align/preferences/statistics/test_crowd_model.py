"""The joint model of pairs and annotators, and the two tests that rest on it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.special import softmax

from align.preferences.statistics import copying
from align.preferences.statistics.copying import judge_copying
from align.preferences.statistics.crowd_model import (
    GRID,
    LOG_PRIOR,
    Answers,
    choice_chances,
    fit_crowd,
    predict,
    sum_by,
)
from align.preferences.statistics.skill import SKILLS, honest_skills, judge_skills, num_partners


def draw(
    rng: np.random.Generator,
    skill: list[float],
    num_units: int,
    overlap: int,
    left: list[float] | None = None,
    scale: float = 3.0,
    num_axes: int = 1,
) -> Answers:
    """Answers by the model itself; each unit goes to ``overlap`` annotators drawn at random."""
    size = len(skill)
    unit = np.repeat(np.arange(num_units), overlap)
    who = np.concatenate([rng.permutation(size)[:overlap] for _ in range(num_units)])
    side = rng.choice([1.0, -1.0], len(unit))
    margin = rng.normal(0, scale, num_units)[unit]
    bias = np.zeros(size) if left is None else np.array(left)
    chances = np.stack(
        choice_chances(np.array(skill)[who] * margin, bias[who] * side, np.log(0.7) * np.ones(len(unit))), axis=1
    )
    choice = (rng.random(len(unit))[:, None] > np.cumsum(chances, axis=1)[:, :2]).sum(axis=1)
    return Answers(unit, who, choice, side, rng.integers(0, num_axes, num_units), size)


def test_chances_are_davidsons() -> None:
    for d, bias, log_tie in product((-40.0, -1.0, 0.0, 2.5), (-0.3, 0.0), (-2.0, 1.0)):
        weights = softmax([(d + bias) / 2, -(d + bias) / 2, log_tie])
        found = choice_chances(np.array(d), np.array(bias), np.array(log_tie))
        assert np.array(found) == pytest.approx(weights, rel=1e-9)


def test_sums_by_index() -> None:
    found = sum_by(np.array([1, 0, 1]), 3, np.array([[1.0, 2], [3, 4], [5, 6]]))
    assert found.tolist() == [[3, 4], [6, 8], [0, 0]]


def test_the_fit_finds_skills_and_biases() -> None:
    skills, left = [0.0, 0.0, 0.6, 0.8, 1.0, 1.0, 1.2, 1.6], [0.0, 2.5, 0.0, 0.8, 0.0, -0.8, 0.0, 0.0]
    crowd = fit_crowd(draw(np.random.default_rng(0), skills, 600, 4, left))
    assert np.corrcoef(crowd.skill, skills)[0, 1] > 0.9
    assert np.abs(crowd.skill[:2]).max() < 0.3 < crowd.skill[2:].min()
    assert crowd.left[1] == pytest.approx(2.5, abs=0.5)
    assert crowd.left[[3, 5]] == pytest.approx([0.8, -0.8], abs=0.4)
    assert np.median(crowd.skill) == pytest.approx(1)
    assert crowd.skill[4] * crowd.scale[0] == pytest.approx(3.0, abs=0.8)


def test_turning_pairs_round_changes_nothing() -> None:
    answers = draw(np.random.default_rng(1), [1.0] * 6, 80, 3)
    turned = Answers(answers.unit, answers.annotator, np.array([1, 0, 2])[answers.choice], -answers.side, answers.axis, 6)
    one, two = fit_crowd(answers), fit_crowd(turned)
    assert one.skill == pytest.approx(two.skill, abs=1e-6)
    assert one.left == pytest.approx(two.left, abs=1e-6)
    assert judge_skills(one, answers).p_value == pytest.approx(judge_skills(two, turned).p_value, abs=1e-6)


def test_axes_have_scales_of_their_own() -> None:
    rng = np.random.default_rng(2)
    wide, narrow = draw(rng, [1.0] * 8, 300, 4, scale=4.0), draw(rng, [1.0] * 8, 300, 4, scale=0.5)
    both = Answers(
        np.concatenate([wide.unit, narrow.unit + 300]),
        np.concatenate([wide.annotator, narrow.annotator]),
        np.concatenate([wide.choice, narrow.choice]),
        np.concatenate([wide.side, narrow.side]),
        np.repeat([0, 1], 300),
        8,
    )
    scale = fit_crowd(both).scale
    assert scale[0] > 3 * scale[1]


def test_nobody_is_judged_by_their_own_vote() -> None:
    """What the others say of a unit is the same whatever the annotator answered, given the same parameters."""
    answers = draw(np.random.default_rng(3), [1.0] * 5, 40, 3)
    crowd = fit_crowd(answers)
    margins = crowd.others(answers)
    by_hand = LOG_PRIOR.copy()
    for vote in np.flatnonzero(answers.unit == answers.unit[0])[1:]:
        who = answers.annotator[[vote]]
        chances = choice_chances(
            crowd.skill[who] * crowd.scale[0] * GRID, crowd.left[who] * answers.side[vote], crowd.axis_tie[0] + crowd.tie[who]
        )
        by_hand += np.log(chances[answers.choice[vote]])
    assert margins[0] == pytest.approx(softmax(by_hand))
    found = predict(crowd, answers, margins, np.arange(len(answers.unit)), *np.ones((3, len(answers.unit))))
    assert found.sum(axis=1) == pytest.approx(np.ones(len(answers.unit)))


def test_who_is_not_trusted_is_not_heard() -> None:
    answers = draw(np.random.default_rng(4), [1.0] * 6, 60, 4)
    trusted = np.array([False, True, True, True, True, True])
    crowd = fit_crowd(answers, trusted)
    mine = answers.annotator == 0
    assert np.abs(crowd.vote_log[mine]).max() == 0
    changed = Answers(answers.unit, answers.annotator, np.where(mine, 2, answers.choice), answers.side, answers.axis, 6)
    assert fit_crowd(changed, trusted).skill[1:] == pytest.approx(crowd.skill[1:], abs=1e-6)


# ------------------------------------------------------------------------------------------------------------------- skill


def test_p_values_of_honest_annotators_are_no_smaller_than_uniform() -> None:
    found = []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        answers = draw(rng, rng.lognormal(0, 0.35, 20).tolist(), 150, 4, rng.normal(0, 0.2, 20).tolist())
        found += judge_skills(fit_crowd(answers), answers).p_value.tolist()
    for level in (0.01, 0.05, 0.2):
        assert np.mean(np.array(found) < level) <= level + 3 * np.sqrt(level * (1 - level) / len(found))


def test_random_clickers_and_contrary_ones_have_small_p_values() -> None:
    skills = [0.0, -1.0, *[1.0] * 14]
    answers = draw(np.random.default_rng(5), skills, 200, 4)
    test = judge_skills(fit_crowd(answers), answers)
    assert test.p_value[:2].max() < 1e-3
    assert test.p_value[2:].min() > 1e-3
    assert test.mean[1] < -0.3 < test.mean[0] < 0.3 < test.mean[2:].min()
    assert np.all((test.low < test.mean) & (test.mean < test.high))


def test_the_spread_of_honest_skills_is_learnt() -> None:
    """From skills known exactly: a crowd of equals leaves less room below than an unequal one, a small crowd more."""

    def known(skills: np.ndarray) -> np.ndarray:
        nearest = np.abs(SKILLS - skills[:, None]).argmin(axis=1)
        return np.where(np.arange(len(SKILLS)) == nearest[:, None], 0.0, -50.0)

    rng = np.random.default_rng(6)
    equal, unequal, few = (honest_skills(known(skills)) for skills in (np.ones(40), rng.lognormal(0, 0.6, 40), np.ones(3)))
    below = SKILLS <= 0.3
    assert equal[below].sum() < few[below].sum() < unequal[below].sum()
    assert equal.sum() == pytest.approx(1)
    assert equal[SKILLS <= 0].sum() == 0
    # Random clickers are no honest annotators with little skill.
    mixed = honest_skills(known(np.concatenate([np.ones(40), np.zeros(10)])))
    assert mixed[below].sum() == pytest.approx(equal[below].sum(), abs=0.01)


def test_two_annotators_can_not_judge_each_other() -> None:
    answers = draw(np.random.default_rng(7), [1.0, 1.0], 30, 2)
    assert num_partners(answers).tolist() == [1, 1]
    assert np.isnan(judge_skills(fit_crowd(answers), answers).p_value).all()


# ----------------------------------------------------------------------------------------------------------------- copying


def test_copies_are_found_and_skilled_friends_are_not() -> None:
    answers = draw(np.random.default_rng(8), [1.0] * 6 + [2.5] * 2, 30, 8)
    copied = answers.choice.copy()
    of = {
        int(unit): choice for unit, who, choice in zip(answers.unit, answers.annotator, answers.choice, strict=True) if who == 0
    }
    copied[answers.annotator == 1] = [of[int(unit)] for unit in answers.unit[answers.annotator == 1]]
    answers = Answers(answers.unit, answers.annotator, copied, answers.side, answers.axis, 8)
    test = judge_copying(fit_crowd(answers), answers)
    pairs = {(int(i), int(j)): p for i, j, p in zip(test.first, test.second, test.p_value, strict=True)}
    assert len(pairs) == 8 * 7 / 2
    assert min(pairs, key=lambda pair: pairs[pair]) == (0, 1)
    assert pairs[0, 1] < 1e-4
    assert sorted(pairs.values())[1] > 1e-3
    assert pairs[6, 7] > 0.05
    assert test.num_agreed[(test.first == 0) & (test.second == 1)].tolist() == [30]
    assert (test.num_shared == 30).all()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = draw(np.random.default_rng(9), [1.0] * 6, 40, 4)
    crowd = fit_crowd(answers)
    whole = judge_copying(crowd, answers)
    monkeypatch.setattr(copying, "_BLOCK", 7)
    assert judge_copying(crowd, answers).expected == pytest.approx(whole.expected)


def test_pairs_with_too_little_in_common_are_left_out() -> None:
    unit, who = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 1, 2])
    answers = Answers(unit, who, np.zeros(6, dtype=np.int64), np.zeros(6), np.zeros(3, dtype=np.int64), 3)
    test = judge_copying(fit_crowd(answers), answers)
    assert (test.first.tolist(), test.second.tolist(), test.num_shared.tolist()) == ([0], [1], [2])
    alone = Answers(np.arange(3), np.arange(3), np.zeros(3, dtype=np.int64), np.zeros(3), np.zeros(3, dtype=np.int64), 3)
    assert len(judge_copying(fit_crowd(alone), alone).p_value) == 0
