"""Commands for a shop's rules: check, preview."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usual.cli.options import Json, Model, print_answer

if TYPE_CHECKING:
    from serving.rules.rulebook import Rulebook

app = typer.Typer()
rules_app = typer.Typer(no_args_is_help=True, help="Check a rules file, and see what it would do.")
app.add_typer(rules_app, name="rules", rich_help_panel="Serving")


@rules_app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The rules file.")],
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle directory with whose catalog products and brands are compared.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="As of this time, by the clock of the file; default: now.")] = None,
    as_json: Json = False,
) -> None:
    """Check a rules file: what is wrong (exit code 2), what never acts, expired, or conflicts."""
    from features.common import clock
    from serving.rules.check import check_rules
    from serving.rules.masks import RuleMasks
    from serving.rules.schedule import parse_instant

    book = _load(file)
    when = clock.now() if at is None else parse_instant(at, book.zone)
    masks = None
    if bundle is not None:
        from models.recommender import load
        from serving.recommend.active_model import ActiveModel

        model = ActiveModel(load(bundle), None)
        masks = RuleMasks(book, model.snapshot, 0, model.availability.matches)
    findings = check_rules(book, when, masks)
    active = sum(rule.schedule.holds(when) for rule in book.rules)
    lines = [f"line {f.line}: {f.rule}: {f.kind.replace('_', ' ')}: {f.message}" for f in findings]
    lines.append(f"{file}: {len(book.rules):,} rules, {active:,} of them on schedule; {len(findings):,} to look at")
    answer: dict[str, Any] = {
        "rules": len(book.rules),
        "active": active,
        "digest": book.digest,
        "findings": [f._asdict() for f in findings],
    }
    print_answer(answer, as_json, "\n".join(lines))


@rules_app.command()
def preview(
    placement: Annotated[str, typer.Option(help="The placement to fill.")] = "home.for_you",
    customer: Annotated[str | None, typer.Option(help="The customer_id; default: an unknown visitor.")] = None,
    rules: Annotated[
        Path | None, typer.Option(help="A rules file, also a draft; default: the one that USUAL_RULES names.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="As the rules hold then, by their clock; default: now.")] = None,
    source: Annotated[str | None, typer.Option(help="Where the visit comes from, such as email.")] = None,
    device: Annotated[str | None, typer.Option(help="Such as mobile.")] = None,
    country: Annotated[str | None, typer.Option(help="Such as DE.")] = None,
    query: Annotated[str | None, typer.Option(help="What is searched for.")] = None,
    category: Annotated[str | None, typer.Option(help="The category whose page is shown.")] = None,
    viewed: Annotated[list[str] | None, typer.Option(help="A product looked at; may be given more than once.")] = None,
    cart: Annotated[list[str] | None, typer.Option(help="A product in the cart; may be given more than once.")] = None,
    k: Annotated[int | None, typer.Option(min=1, max=100, help="How many products; default: the placement's.")] = None,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Show a placement with and without rules side by side, and of each rule whether it acts or what does not hold.

    What the visitor did since the model's snapshot is only known to a server: POST /v1/rules/preview looks at it too.
    """
    from features.common import clock
    from features.common.errors import InputError
    from features.sources import event_store
    from models.recommender import BundleRecommender
    from serving.recommend.offline import find_placement, prepare_model
    from serving.recommend.rules_preview import preview_rules
    from serving.rules.schedule import parse_instant
    from serving.schemas import placements
    from serving.schemas.recommendations import RecommendationRequest
    from serving.settings import read_settings
    from training import config
    from training.tracking import registry

    settings = read_settings()
    file = rules or settings.rules
    if file is None:
        raise InputError("there are no rules to preview; name a file with --rules, or set USUAL_RULES")
    served = placements.read(settings.placements)
    book = _load(file)
    when = clock.now() if at is None else parse_instant(at, book.zone)
    context = {
        "item_ids": list(viewed or ()),
        "cart_item_ids": list(cart or ()),
        "source": source,
        "device": device,
        "country": country,
        "query": query,
        "category": category,
    }
    body = {"placement": placement, "customer_id": customer, "session_id": "preview", "context": context, "limit": k}
    request = _validated(RecommendationRequest, body)
    request = request.model_copy(update={"include": ["rules"], "customer_id": request.customer_id or None})
    where = find_placement(placement, served, request)
    active = prepare_model(
        BundleRecommender(registry.load_bundle(model, config.load())), event_store.read_availability()
    )
    answer = preview_rules(active, request, where, book, (), clock.now(), when)
    print_answer(answer, as_json, _side_by_side(answer))


def _load(file: Path) -> "Rulebook":
    from serving.rules import rulebook
    from serving.schemas import placements
    from serving.settings import read_settings

    return rulebook.load(file, placements.read(read_settings().placements))


def _validated(message: Any, body: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from features.common.errors import InputError
    from features.common.yaml_config import describe_errors

    try:
        return message.model_validate(body)
    except ValidationError as error:
        raise InputError(f"the request to preview is wrong: {describe_errors(error)}") from None


def _side_by_side(answer: dict[str, Any]) -> str:
    """Lay both lists out in columns, then the rules."""
    rows = [("", f"{answer['placement']} without rules", "with rules", "")]
    plain, ruled = answer["without_rules"], answer["with_rules"]
    for n in range(max(len(plain), len(ruled))):
        left = _describe(plain[n]) if n < len(plain) else ""
        right = _describe(ruled[n]) if n < len(ruled) else ""
        moves = [f"{m['action']} by {m['id']} from {m['from'] or '-'}" for m in ruled[n]["rules"]] if right else []
        rows.append((str(n + 1), left, right, ", ".join(moves)))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{a:>{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d}".rstrip() for a, b, c, d in rows]
    lines.append(f"\nrules at {answer['at']}, by precedence:")
    for rule in answer["rules"]:
        state = "acts" if rule["matched"] else "no"
        lines.append(f"  {state:<5} {rule['id']} ({rule['action']})" + (f": {rule['why']}" if rule["why"] else ""))
    return "\n".join(lines)


def _describe(item: dict[str, Any]) -> str:
    title = item["title"]
    text = item["item_id"] if not title else f"{item['item_id']} {title}"
    return text if len(text) <= 40 else text[:39] + "…"
