import polars as pl

from features.event_log.schema import EVENT_SCHEMA
from features.event_log.stated_answers import PREFERENCES, decode
from features.sources.simulator.config import SimulatorConfig
from features.sources.simulator.shop import read, simulate

QUIET = SimulatorConfig.fashion(customers=120, items=150, days=50, seed=4)
ASKING = QUIET.model_copy(update={"quizzes": 0.5, "quiz_noise": 0.0})


def log(config: SimulatorConfig, slice_rows: int = 2_000_000) -> pl.DataFrame:
    return pl.concat([part.events for part in read(config, slice_rows)])


def test_quizzes_leave_everything_else_as_it_is():
    events = log(ASKING)
    assert events.filter(pl.col("name") != PREFERENCES).equals(log(QUIET))
    assert events["timestamp"].is_sorted()
    assert events.schema == EVENT_SCHEMA
    assert log(ASKING, 1000).equals(events), "however it is cut"


def test_answers_are_true_and_come_before_the_first_touch():
    answers = log(ASKING).filter(pl.col("name") == PREFERENCES)
    people = simulate(ASKING).people
    asked = answers["client_id"].n_unique()
    assert 0.35 < asked / (people.since > 0).sum() < 0.65
    assert answers["client_id"].n_unique() == answers.filter(pl.col("question") == "category").height
    assert answers["event_id"].is_unique().all()
    brands = answers.filter(pl.col("question") == "brand")
    assert 0 < brands.height < asked, "only the loyal name one"
    category = {
        c: decode(a)[0] for c, q, a in answers.select("client_id", "question", "answer").rows() if q == "category"
    }
    paths = [spec.path for spec in simulate(ASKING).items.categories]
    likes = {f"d{n:06d}": paths[best] for n, best in enumerate(people.taste.argmax(axis=1).tolist())}
    same = [likes[client] == said for client, said in category.items() if client in likes]
    assert sum(same) / len(same) > 0.95  # somebody may come on another's device
    first = log(ASKING).filter(pl.col("client_id").is_in(answers["client_id"].implode()))
    start = first.group_by("client_id", "session_id").agg(pl.col("timestamp").min())
    joined = answers.join(start, on=["client_id", "session_id"], suffix="_start")
    assert (joined["timestamp"] - joined["timestamp_start"]).max().total_seconds() <= 2


def test_noise_makes_answers_random():
    true, noisy = (
        log(ASKING.model_copy(update={"quiz_noise": noise})).filter(pl.col("question") == "category")["answer"]
        for noise in (0.0, 1.0)
    )
    assert true.len() == noisy.len()
    assert (true != noisy).mean() > 0.5
