from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import expit, hyp2f1
from scipy.stats import beta, gamma

from features.common.errors import InputError
from features.tables.lifetime_models import FEWEST_REPEAT_BUYERS, BgNbd, GammaGamma
from tests.features.shop import examples
from tests.features.tables.populations import PUBLISHED, PUBLISHED_VALUES, simulate, simulate_values


@pytest.mark.parametrize(("x", "t_x", "T"), [(0, 0.0, 20.0), (2, 30.43, 38.86), (7, 5.0, 30.0), (5, 0.5, 1.0)])
def test_formulas_equal_the_integrals_they_solve(x: int, t_x: float, T: float):
    """Integrals over all rates λ and stopping probabilities p, from the assumptions of the model alone."""
    model, ahead = BgNbd(0.6, 3.0, 1.0, 2.0), 12.0  # a = 1: the paper's formula divides zero by zero
    # Even steps in ln λ and in the log-odds of p, where all that is integrated dies away on both sides.
    u, v = np.linspace(-40, 5, 1501)[:, None], np.linspace(-40, 40, 1601)
    rate, p = np.exp(u), expit(v)
    density = gamma(model.r, scale=1 / model.alpha).pdf(rate) * rate
    density = density * beta(model.a, model.b).pdf(p) * p * expit(-v) * (u[1] - u[0]) * (v[1] - v[0])
    going = (rate * expit(-v)) ** x * np.exp(-rate * T) * density
    gone = p * expit(-v) ** (x - 1) * rate**x * np.exp(-rate * t_x) * density if x else np.zeros(1)
    whole = going.sum() + gone.sum()
    assert model.log_likelihood(x, t_x, T) == pytest.approx(np.log(whole), abs=1e-6)
    assert model.alive(x, t_x, T) == pytest.approx(going.sum() / whole, abs=1e-6)
    orders_ahead = (going * -np.expm1(-rate * p * ahead) / p).sum() / whole
    assert model.expected_purchases(ahead, x, t_x, T) == pytest.approx(orders_ahead, rel=1e-5)
    ordering = (going * -np.expm1(-rate * ahead)).sum() / whole
    assert 1 - model.no_purchase(ahead, x, t_x, T) == pytest.approx(ordering, rel=1e-5)


def test_a_fit_recovers_simulated_customers():
    true = BgNbd(r=0.8, alpha=6.0, a=0.7, b=3.0)
    ages = np.random.default_rng(1).uniform(20, 100, 40_000)
    x, t_x, T, later = simulate(true, ages, ahead=26)
    model = BgNbd.fit(x, t_x, T)
    assert model is not None
    assert astuple(model) == pytest.approx(astuple(true), rel=0.12)
    assert model.log_likelihood(x, t_x, T).sum() >= true.log_likelihood(x, t_x, T).sum()
    expected, quiet = true.expected_purchases(26, x, t_x, T), true.no_purchase(26, x, t_x, T)
    bins = [(x == 0), (x == 1), (x > 1) & (x < 6), (x >= 6), (x > 0) & (t_x < T / 3), (x > 0) & (t_x > 0.9 * T)]
    for rows in bins:
        error = later[rows].std() / np.sqrt(rows.sum())
        assert expected[rows].mean() == pytest.approx(later[rows].mean(), abs=4 * error)
        assert quiet[rows].mean() == pytest.approx((later[rows] == 0).mean(), abs=2 / np.sqrt(rows.sum()))
    fresh, _, _, _ = simulate(true, np.full(40_000, 30.0), seed=4)
    assert true.expected_new(30) == pytest.approx(fresh.mean(), abs=4 * fresh.std() / 200)


def test_the_paper_s_closed_form_where_it_is_safe():
    model = PUBLISHED
    for x, t_x, T, ahead in ((1, 3.0, 10.0, 4.0), (2, 30.43, 38.86, 39.0), (9, 20.0, 38.0, 52.0), (3, 0.0, 0.0, 52.0)):
        r, alpha, a, b = astuple(model)
        far = hyp2f1(r + x, b + x, a + b + x - 1, ahead / (alpha + T + ahead))
        left = (a + b + x - 1) / (a - 1) * (1 - ((alpha + T) / (alpha + T + ahead)) ** (r + x) * far)
        right = 1 + a / (b + x - 1) * ((alpha + T) / (alpha + t_x)) ** (r + x)
        assert model.expected_purchases(ahead, x, t_x, T) == pytest.approx(left / right, rel=1e-8)


PARAMETER = st.floats(-5, 5).map(lambda v: float(np.exp(v)))
MODELS = st.builds(BgNbd, PARAMETER, PARAMETER, PARAMETER, PARAMETER)


@examples(60)
@given(
    MODELS,
    st.one_of(st.integers(0, 5), st.sampled_from([50, 3000, 10**6])),
    st.sampled_from([0.0, 0.01, 1.0, 80.0, 5000.0]),
    st.sampled_from([0.0, 0.5, 1 - 1e-9, 1.0]),
)
def test_extreme_customers_get_sane_numbers(model: BgNbd, x: int, T: float, share: float):
    t_x = T * share if x else 0.0
    ahead = np.array([0, 1e-6, 0.1, 4, 52, 5000, 1e9])
    scores = np.array([model.expected_purchases(h, x, t_x, T) for h in ahead])
    most = (model.r + x) * ahead / (model.alpha + T)
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()
    assert (scores <= most * (1 + 1e-9)).all()
    assert (np.diff(scores) >= -1e-6 * scores[1:]).all()
    alive = float(model.alive(x, t_x, T))
    quiet = np.array([model.no_purchase(h, x, t_x, T) for h in ahead])
    assert 0 <= alive <= 1
    assert quiet[0] == 1
    assert (np.diff(quiet) <= 0).all()
    assert quiet[-1] >= 1 - alive - 1e-12
    # An order is expected at least as often as there is one.
    assert (scores >= (1 - quiet) * (1 - 1e-3) - 1e-12).all()
    assert np.isfinite(model.log_likelihood(x, t_x, T))


@pytest.mark.parametrize("a", [0.5, 1 - 1e-9, 1.0, 1 + 1e-9, 6.0])
@pytest.mark.parametrize(("x", "ahead"), [(0, 4.0), (0, 300.0), (3, 52.0), (200, 52.0), (3, 4000.0)])
def test_expected_purchases_of_the_living(a: float, x: int, ahead: float):
    """Against the mean over p by adaptive integration in ln p; a shop of a week, so that the horizon is far."""
    model, T = BgNbd(0.5, 1.0, a, 1.5), 2.0
    z, rate, stopping = ahead / (1 + T), 0.5 + x, beta(a, 1.5 + x)

    def integrand(u: float) -> float:
        p = np.exp(u)
        return float(-np.expm1(-rate * np.log1p(p * z)) * stopping.pdf(p))  # / p, and dp = p du

    whole = sum(quad(integrand, u, u + 4, epsrel=1e-11, limit=200)[0] for u in range(-80, 0, 4))
    assert model.expected_purchases(ahead, x, T if x else 0, T) / model.alive(x, T if x else 0, T) == pytest.approx(
        whole, rel=1e-4
    )


CUSTOMER = st.tuples(st.integers(1, 6), st.integers(0, 40), st.integers(0, 40), st.integers(1, 3))


@st.composite
def populations(draw: st.DrawFn) -> tuple[np.ndarray, ...]:
    """x, t_x, T in days, and how often each is there; enough repeat buyers for a fit."""
    drawn = draw(st.lists(CUSTOMER, min_size=FEWEST_REPEAT_BUYERS, max_size=45))
    once = draw(st.lists(st.integers(0, 90), max_size=20))
    x = np.array([c[0] for c in drawn] + [0] * len(once))
    t_x = np.array([c[0] + c[1] for c in drawn] + [0] * len(once))
    T = np.array([sum(c[:3]) for c in drawn] + once)
    return x, t_x, T, np.array([c[3] for c in drawn] + [1] * len(once))


@examples(8)
@given(populations(), st.sampled_from([1 / 7, 24.0]), st.randoms(use_true_random=False))
def test_the_fit_does_not_depend_on_order_repetition_and_time_unit(rows: tuple, unit: float, random) -> None:
    x, t_x, T, times = rows
    model = BgNbd.fit(x, t_x, T, times)
    order = random.sample(range(len(x)), len(x))
    assert BgNbd.fit(x[order], t_x[order], T[order], times[order]) == model  # bit for bit
    assert BgNbd.fit(*(np.repeat(c, times) for c in (x, t_x, T))) == model
    scaled = BgNbd.fit(x, t_x * unit, T * unit, times)
    assert (model is None) == (scaled is None)
    if model is not None and scaled is not None:
        # Where the likelihood is flat its parameters are loose; its predictions are not.
        assert scaled.expected_purchases(30 * unit, x, t_x * unit, T * unit) == pytest.approx(
            model.expected_purchases(30, x, t_x, T), rel=1e-3
        )
        inside = [0.99 * v for v in astuple(model)], [1.01 * v for v in astuple(model)]
        best = times @ model.log_likelihood(x, t_x, T)
        for n in range(4):
            for side in inside:
                other = BgNbd(*(side[k] if k == n else v for k, v in enumerate(astuple(model))))
                if max(astuple(model)) < 1000 and min(astuple(model)) > 0.001:
                    assert times @ other.log_likelihood(x, t_x, T) <= best + 1e-6


def test_time_units_scale_the_rate_alone():
    x, t_x, T, _ = simulate(PUBLISHED, np.random.default_rng(2).uniform(10, 80, 4000))
    weeks, days = BgNbd.fit(x, t_x, T), BgNbd.fit(x, 7 * t_x, 7 * T)
    assert weeks is not None
    assert days is not None
    assert astuple(replace(days, alpha=days.alpha / 7)) == pytest.approx(astuple(weeks), rel=1e-5)


@pytest.mark.parametrize(
    ("x", "t_x", "T"),
    [(-1, 0, 5), (1, 6, 5), (0, 1, 5), (1, -1, 5), (1, 1, np.inf), (np.nan, 1, 5), (1, 1, np.nan)],
)
def test_impossible_rows_are_named(x: float, t_x: float, T: float):
    with pytest.raises(InputError, match="row 1 of the lifetime summary is impossible"):
        BgNbd.fit([1, x], [2, t_x], [3, T])


def test_shops_without_a_pattern():
    n = 100
    assert BgNbd.fit(np.zeros(n), np.zeros(n), np.arange(n)) is None
    few = np.repeat([1, 0], [FEWEST_REPEAT_BUYERS - 1, 500])
    assert BgNbd.fit(few, few * 2.0, few + 3.0) is None
    assert BgNbd.fit([], [], []) is None
    for x, t_x, T in ((5, 50.0, 50.0), (1, 0.0, 300.0), (1, 0.0, 0.0)):  # nobody stops; all stop; all in one day
        model = BgNbd.fit(np.full(n, x), np.full(n, t_x), np.full(n, T))
        if model is not None:
            assert np.isfinite([*astuple(model), model.expected_purchases(52, x, t_x, T)]).all()
    regulars = BgNbd.fit(np.full(n, 5), np.full(n, 50.0), np.full(n, 50.0))
    assert regulars is not None
    assert regulars.expected_purchases(50, 5, 50, 50) == pytest.approx(5, rel=0.2)
    with pytest.raises(InputError, match="weights must be 2 finite numbers"):
        BgNbd.fit([1, 1], [1, 1], [2, 2], [1, -1])


@pytest.mark.parametrize(("x", "mean"), [(1, 12.0), (3, 80.0), (20, 30.0)])
def test_the_expected_value_is_the_mean_of_the_posterior(x: int, mean: float):
    model = PUBLISHED_VALUES
    nu = np.exp(np.linspace(-15, 5, 4001))  # even steps in ln ν
    likelihood = gamma(model.p * x, scale=1 / (nu * x)).pdf(mean) * gamma(model.q, scale=1 / model.v).pdf(nu) * nu
    assert model.expected_value(x, mean) == pytest.approx((model.p / nu) @ likelihood / likelihood.sum(), rel=1e-6)


def test_a_fit_recovers_simulated_values_in_any_currency():
    x, mean = simulate_values(PUBLISHED_VALUES, 30_000)
    model, cents = GammaGamma.fit(x, mean), GammaGamma.fit(x, 100 * mean)
    assert model is not None
    assert cents is not None
    assert astuple(model) == pytest.approx(astuple(PUBLISHED_VALUES), rel=0.06)
    assert astuple(replace(cents, v=cents.v / 100)) == pytest.approx(astuple(model), rel=1e-5)
    assert model.expected_value(0, np.nan) == pytest.approx(6.25 * 15.44 / 2.74, rel=0.02)
    # One order hardly moves the estimate, many determine it.
    assert model.expected_value(1, 500.0) < 400 < 450 < model.expected_value(50, 500.0) < 500


def test_values_are_fitted_to_repeat_buyers_who_paid():
    x, mean = simulate_values(PUBLISHED_VALUES, 500)
    model = GammaGamma.fit(x, mean)
    order = np.random.default_rng(0).permutation(500)
    assert GammaGamma.fit(x[order], mean[order]) == model
    assert GammaGamma.fit(np.repeat(x, 2), np.repeat(mean, 2)) == GammaGamma.fit(x, mean, np.full(500, 2))
    others = GammaGamma.fit(np.append(x, [0, 0, 3, 2]), np.append(mean, [5, np.nan, 0, -4]))
    assert others == model
    assert GammaGamma.fit(x[: FEWEST_REPEAT_BUYERS - 1], mean[: FEWEST_REPEAT_BUYERS - 1]) is None
    same = GammaGamma.fit(x, np.full(500, 9.0))
    assert same is None or same.expected_value(4, 9.0) == pytest.approx(9, rel=0.01)


def test_there_is_no_expected_value_without_a_mean():
    wild = GammaGamma(p=0.4, q=0.5, v=10.0)
    assert np.isnan(wild.expected_value([0, 1], [np.nan, 5.0])).all()
    assert wild.expected_value(3, 5.0) == pytest.approx(0.4 * (10 + 15) / 0.7)
