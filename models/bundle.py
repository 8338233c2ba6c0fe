"""The bundle: what is trained, registered, packaged and served, as one directory of plain arrays.

    manifest.json            format, feature schema, as_of, recommenders, library versions, metrics, checksums
    customers/ items/        ids.arrow, hashes.npy, order.npy, features.npy, …
    predictions/             .npy, and the propensity classifiers in LightGBM's text format
    history/ generators/     .npy
    rankers/*.txt            LightGBM's text format

Loading runs no code from it and copies nothing: arrays are memory-mapped, so the processes of one machine
share them. The generators that have arrays in it are the active ones.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from features.common.arrays import AnyArray
from features.common.clock import iso, parse
from features.common.errors import InputError
from features.common.paths import make_private
from features.common.yaml_config import describe_errors
from features.ranking.feature_matrix import schema_hash
from features.ranking.id_index import IdIndex
from features.ranking.snapshot import Snapshot
from features.ranking.stated_preferences import NO_ANSWERS, CustomerAnswers
from features.tables.history import Histories
from features.tables.rfm import CutPoints
from models.candidates.generators import Generators, names_of_arrays, under
from models.candidates.registry import GENERATORS, GeneratorName
from models.customers.predictions import CustomerPredictions, customer_profile
from models.customers.propensity import PropensityModel
from models.ranker import Ranker
from models.two_stage import TwoStage

FORMAT = 4
RecommenderName = Literal["one_to_one", "one_to_one_visit", "predictive"]
"""one_to_one ranks for a customer with history whose visit has no events yet, one_to_one_visit for one inside a
visit, predictive for everyone else."""
RECOMMENDERS: tuple[RecommenderName, ...] = get_args(RecommenderName)
_LIBRARIES = ("numpy", "scipy", "lightgbm", "implicit", "polars", "narwhals")


class Manifest(BaseModel):
    """manifest.json."""

    model_config = ConfigDict(extra="forbid")

    format: int
    """Layout of the directory; another number is refused."""
    features: str
    """Hash of the ranker's feature declarations; another one is refused."""
    as_of: str
    """The snapshot holds what was known just before this time (ISO 8601)."""
    rfm_cut_points: CutPoints
    """What customers' recency, frequency and monetary value were scored against."""
    budgets: dict[RecommenderName, dict[GeneratorName, int]]
    """The recommenders of this bundle, and the budgets of their generators."""
    libraries: dict[str, str]
    """Versions of the libraries it was made with."""
    metrics: dict[str, float]
    """Hold-out metrics of the same recipe, trained on the events before the hold-out."""
    files: dict[str, str]
    """SHA-256 of every other file: a damaged one is refused before any library parses it."""

    @property
    def generators(self) -> tuple[GeneratorName, ...]:
        """The names of the active generators, from the files that are there."""
        return names_of_arrays(under("generators/", dict.fromkeys(self.files)))


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory, or mapped from disk."""

    snapshot: Snapshot
    generators: Generators
    recommenders: dict[RecommenderName, TwoStage]
    metrics: dict[str, float] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=lambda: {name: version(name) for name in _LIBRARIES})
    propensity: PropensityModel = field(default_factory=PropensityModel)
    saved_predictions: CustomerPredictions | None = field(default=None, repr=False)
    """Predictions that were saved with the bundle."""

    @cached_property
    def predictions(self) -> CustomerPredictions:
        """What each customer is expected to do next; computed once, where they were not saved."""
        return self.saved_predictions or CustomerPredictions.predict(self.propensity, self.snapshot)

    def profile(self, customer_id: str) -> dict[str, Any] | None:
        """JSON values of a customer's segment and predictions, None for an unknown customer."""
        (customer,) = self.snapshot.customers.find([customer_id])
        return customer_profile(self.predictions, self.snapshot, int(customer)) if customer >= 0 else None

    def save(self, path: Path) -> Path:
        """Write to the directory `path`, which must not exist or be empty."""
        if path.exists() and any(path.iterdir()):
            raise InputError(f"{path} is not empty; choose another directory for the bundle")
        path.mkdir(parents=True, exist_ok=True)
        s = self.snapshot
        arrays: dict[str, AnyArray] = {
            "customers/hashes": s.customers.hashes,
            "customers/order": s.customers.order,
            "customers/segments": s.segments,
            "customers/features": s.customer_features,
            "customers/lifetime": s.lifetime,
            "predictions/values": self.predictions.values,
            "predictions/next_categories": self.predictions.next_categories,
            "items/hashes": s.items.hashes,
            "items/order": s.items.order,
            "items/categories": s.categories,
            "items/departments": s.departments,
            "items/brands": s.brands,
            "items/features": s.item_features,
            "history/indptr": s.history.indptr,
            "history/items": s.history.items,
            "history/values": s.history.values,
            **{f"generators/{name}": array for name, array in self.generators.arrays().items()},
        }
        if s.answers.total:
            arrays |= {f"answers/{name}": array for name, array in s.answers.arrays().items()}
        for name, array in arrays.items():
            file = path / f"{name}.npy"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, array, allow_pickle=False)
        texts = {"customers/ids": s.customers.values, "items/ids": s.items.values, "items/categories": s.category_names}
        for name, values in texts.items():
            save_texts(path / f"{name}.arrow", values)
        with (
            pa.OSFile(str(path / "items" / "about.arrow"), "wb") as sink,
            pa.ipc.new_file(sink, s.catalog.schema) as out,
        ):
            out.write_table(s.catalog)
        self.propensity.save(path / "predictions")
        (path / "rankers").mkdir()
        for recommender, two_stage in self.recommenders.items():
            (path / "rankers" / f"{recommender}.txt").write_text(two_stage.ranker.text())
        files = {f.relative_to(path).as_posix(): file_digest(f) for f in sorted(path.rglob("*")) if f.is_file()}
        manifest = Manifest(
            format=FORMAT,
            features=schema_hash(self.generators.names),
            as_of=iso(s.as_of),
            rfm_cut_points=s.cut_points,
            budgets={name: two_stage.budgets for name, two_stage in self.recommenders.items()},
            libraries=self.libraries,
            metrics=self.metrics,
            files=files,
        )
        (path / "manifest.json").write_text(json.dumps(manifest.model_dump(), indent=1) + "\n")
        make_private(path)  # it holds ids
        return path

    @classmethod
    def load(cls, path: Path) -> "Bundle":
        """Map the bundle in directory `path`. Raises `InputError` where it does not fit this code."""
        manifest = check_files(path)
        # Plain arrays over the mapped files: each slice of a `memmap` takes several times as long as one of an array.
        arrays = {
            name.removesuffix(".npy"): np.asarray(np.load(path / name, mmap_mode="r", allow_pickle=False))
            for name in manifest.files
            if name.endswith(".npy")
        }
        snapshot = _snapshot(path, arrays, parse(manifest.as_of), manifest.rfm_cut_points)
        generators = Generators.from_arrays(under("generators/", arrays))
        return cls(
            snapshot=snapshot,
            generators=generators,
            recommenders={
                name: TwoStage(
                    generators,
                    dict(budgets),
                    Ranker.from_text((path / "rankers" / f"{name}.txt").read_text()),
                )
                for name, budgets in manifest.budgets.items()
            },
            metrics=manifest.metrics,
            libraries=manifest.libraries,
            propensity=PropensityModel.load(path / "predictions"),
            saved_predictions=CustomerPredictions(arrays["predictions/values"], arrays["predictions/next_categories"]),
        )

    def refit_to(self, snapshot: Snapshot) -> "Bundle":
        """The same models over a newer snapshot, with its customers' predictions: a refresh without retraining."""
        generators = self.generators.refit_to(self.snapshot, snapshot)
        recommenders = {name: replace(r, generators=generators) for name, r in self.recommenders.items()}
        return replace(
            self, snapshot=snapshot, generators=generators, recommenders=recommenders, saved_predictions=None
        )

    def info(self) -> dict[str, Any]:
        """The content of `GET /v1/model`."""
        return {
            "name": "usual",
            "as_of": iso(self.snapshot.as_of),
            "format": FORMAT,
            "features": schema_hash(self.generators.names),
            "recommenders": sorted(self.recommenders),
            "customers": len(self.snapshot.customers),
            "items": len(self.snapshot.items),
            "metrics": self.metrics,
            "libraries": self.libraries,
        }


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the bundle at `path`. Raises `InputError` where this code cannot read the bundle."""
    file = path / "manifest.json"
    if not file.is_file():
        raise InputError(f"{path} is not a bundle: it has no manifest.json")
    try:
        content = json.loads(file.read_text())
        number = content.get("format")
    except (ValueError, AttributeError) as error:
        raise InputError(f"the bundle {path} is damaged: manifest.json is not a JSON object ({error})") from error
    if number != FORMAT:
        raise InputError(
            f"the bundle {path} has format {number}, this version reads format {FORMAT}; train and package it again"
        )
    if unknown := _unknown_generators(content):
        raise InputError(
            f"the bundle {path} was made with candidate generators that this version does not have: "
            f"{', '.join(unknown)}; serve it with the version that trained it, or train it again"
        )
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        raise InputError(f"the bundle {path} is damaged: manifest.json: {describe_errors(error)}") from error
    features = schema_hash(manifest.generators)
    if manifest.features != features:
        raise InputError(
            f"the bundle {path} was trained on other features ({manifest.features}, this version makes "
            f"{features}); train it again, or serve it with the version that trained it"
        )
    return manifest


def check_files(path: Path) -> Manifest:
    """Read the manifest of the bundle at `path`, and raise `InputError` unless every file is what was saved."""
    manifest = read_manifest(path)
    for name, digest in manifest.files.items():
        if not (path / name).is_file():
            raise InputError(f"the bundle {path} is damaged: {name} is missing; get the bundle again")
        if file_digest(path / name) != digest:
            raise InputError(f"the bundle {path} is damaged: {name} is not what was saved; get the bundle again")
    return manifest


def _unknown_generators(content: dict[str, Any]) -> list[str]:
    budgets = content.get("budgets")
    if not isinstance(budgets, dict):
        return []
    names = {name for each in budgets.values() if isinstance(each, dict) for name in each}
    return sorted(names - set(GENERATORS))


def _snapshot(path: Path, arrays: Mapping[str, AnyArray], as_of: int, cuts: CutPoints) -> Snapshot:
    def ids(kind: str) -> IdIndex:
        return IdIndex(load_texts(path / kind / "ids.arrow"), arrays[f"{kind}/hashes"], arrays[f"{kind}/order"])

    return Snapshot(
        as_of=as_of,
        customers=ids("customers"),
        segments=arrays["customers/segments"],
        customer_features=arrays["customers/features"],
        lifetime=arrays["customers/lifetime"],
        items=ids("items"),
        categories=arrays["items/categories"],
        category_names=load_texts(path / "items" / "categories.arrow"),
        departments=arrays["items/departments"],
        brands=arrays["items/brands"],
        item_features=arrays["items/features"],
        catalog=pa.ipc.open_file(pa.memory_map(str(path / "items" / "about.arrow"))).read_all(),
        history=Histories(arrays["history/indptr"], arrays["history/items"], arrays["history/values"]),
        cut_points=cuts,
        answers=CustomerAnswers.from_arrays(under("answers/", arrays)) if "answers/total" in arrays else NO_ANSWERS,
    )


def file_digest(file: Path) -> str:
    """SHA-256 of a file, as the manifest holds it."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def save_texts(file: Path, values: pa.StringArray) -> None:
    """Write texts as a file that `load_texts` maps."""
    batch = pa.record_batch([values], names=["text"])
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def load_texts(file: Path) -> pa.StringArray:
    """Map the texts in a file."""
    return pa.ipc.open_file(pa.memory_map(str(file))).get_batch(0).column(0)
