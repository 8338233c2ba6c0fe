// A storefront as small as it can be: it shows what The Usual answers, and tells it what happens. Whatever comes from
// the catalog gets into the page as text, never as HTML.

const PLACEMENTS = {
  "home.for_you": "For you",
  recently_viewed: "Recently viewed",
  buy_again: "Buy again",
  "home.trending": "Trending",
  "home.new": "New in the shop",
  "category.top": "Top of this category",
  "product.similar": "Similar products",
  "product.bought_together": "Often bought together",
  "cart.complements": "Goes with your cart",
};
const VIEWS = {
  home: ["home.for_you", "recently_viewed", "buy_again", "home.trending", "home.new"],
  category: ["category.top"],
  search: [],
  item: ["product.bought_together", "product.similar", "home.for_you"],
  cart: ["cart.complements", "home.for_you"],
};
// What is the visitor's own: rather nothing than what sells.
const OWN = new Set(["recently_viewed", "buy_again"]);
const SHOWN = 8, SHOWN_FOR_YOU = 12, VIEWED = 20, TOLD = 12;

const find = (id) => document.getElementById(id);
const items = new Map(); // what is known of the catalog, by item_id
const cart = new Map(); // pieces by item_id
const led = new Map(); // which answer led to an item: recommendation_id, item_list_id, index
const ranks = new Map(); // by view and placement: ranks in the answer before
let viewed = [], turn = 0;

function make(tag, more, ...children) {
  const { data, ...properties } = more ?? {};
  const element = Object.assign(document.createElement(tag), properties);
  Object.assign(element.dataset, data);
  element.append(...children.filter((child) => child != null));
  return element;
}

function money(price, currency) {
  if (price == null) return "";
  try {
    return new Intl.NumberFormat("en", { style: "currency", currency }).format(price);
  } catch {
    return `${price.toFixed(2)} ${currency ?? ""}`;
  }
}

const count = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const leaf = (path) => (path ?? "").split("/").at(-1);
const title = (id) => items.get(id)?.title ?? id;
const link = (view, value) => `#${view}=${encodeURIComponent(value)}`;

async function ask(path, body) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, body && options);
  const said = await answer.json();
  if (!answer.ok) throw Error(said.detail);
  said.items?.forEach((item) => items.set(item.item_id, item));
  return said;
}

async function know(ids) {
  const unknown = ids.filter((id) => !items.has(id));
  if (unknown.length) await ask("/demo/items", { item_ids: unknown });
}

// ---- what happens is told

function lines(ids, pieces = () => 1) {
  return ids.map((id) => {
    const { recommendation_id, ...shown } = led.get(id) ?? {};
    return { item_id: id, price: items.get(id)?.price, quantity: pieces(id), ...shown };
  });
}

function tell(name, params, about) {
  if (!usual.track(name, params)) return;
  find("told").prepend(make("li", {}, make("code", {}, name), " ", about));
  while (find("told").children.length > TOLD) find("told").lastChild.remove();
}

function tellOf(name, id) {
  const item = items.get(id);
  const params = { currency: item?.currency ?? undefined, recommendation_id: led.get(id)?.recommendation_id };
  tell(name, { ...params, items: lines([id]) }, title(id));
}

function add(id) {
  cart.set(id, (cart.get(id) ?? 0) + 1);
  tellOf("add_to_cart", id);
  say(`${title(id)} is in the cart`);
  show();
}

function remove(id) {
  cart.delete(id);
  tellOf("remove_from_cart", id);
  say(`${title(id)} is out of the cart`);
  show();
}

function buy() {
  const ids = [...cart.keys()];
  const bought = lines(ids, (id) => cart.get(id)).map((line) => ({ ...line, price: line.price ?? 0 }));
  const value = bought.reduce((sum, line) => sum + line.price * line.quantity, 0);
  const currency = items.get(ids[0])?.currency ?? undefined;
  const transaction_id = `demo-${crypto.randomUUID()}`;
  tell("purchase", { transaction_id, value, currency, items: bought }, ids.map(title).join(", "));
  cart.clear();
  location.hash = "home";
}

function say(text) {
  find("spoken").textContent = text;
}

// ---- what is shown

function tile(item) {
  const hue = [...(item.category ?? "")].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 360, 7);
  const drawn = make("span", { className: "tile", ariaHidden: "true" }, leaf(item.category).slice(0, 1) || "·");
  drawn.style.setProperty("--hue", hue);
  return drawn;
}

function moved(before, rank) {
  if (before === undefined) return null;
  const was = before.get(rank.item_id);
  if (was === rank.rank) return null;
  const text = was === undefined ? "new here" : was > rank.rank ? `up ${was - rank.rank}` : `down ${rank.rank - was}`;
  return make("span", { className: was === undefined || was > rank.rank ? "moved up" : "moved" }, text);
}

function card(id, place, more = {}) {
  const item = items.get(id) ?? { item_id: id, title: id };
  const about = [leaf(item.category), item.brand].filter(Boolean).join(" · ");
  const opened = () => { // without a result: false would keep a link from being followed
    if (more.from) led.set(id, more.from);
    else led.delete(id);
  };
  const button = item.available === false ? make("p", { className: "soft" }, "sold out") : make("button", {
    type: "button", data: { key: `${place}+${id}` }, ariaLabel: `Add ${title(id)} to the cart`,
    onclick: () => { opened(); add(id); },
  }, "Add to cart");
  const chosen = () => {
    opened();
    if (more.from) tellOf("select_item", id);
  };
  const name = make("a", { href: link("item", id), data: { key: `${place}>${id}` }, onclick: chosen }, title(id));
  const price = make("p", { className: "price" }, money(item.price, item.currency));
  return make("li", { className: "card", data: { item: id } }, tile(item), more.moved, make("h3", {}, name),
    make("p", { className: "soft" }, about), more.why && make("p", { className: "why" }, more.why), price, button);
}

const HOW = {
  one_to_one: "ranked for this customer", predictive: "ranked for this visit", generators: "not ranked by a model",
  popular: "what sells",
};
const WHY = {
  unknown_visitor: "nothing is known of the visitor", no_ranker: "no ranker for this kind of visitor",
  ranker_error: "the ranker failed", deadline: "ranking took too long", shortage: "too little to fill it",
};

function placement(result, view) {
  const name = result.placement, seen = `${view} ${name}`, before = ranks.get(seen), id = `of-${name}`;
  const how = make("p", { className: "how" }, make("code", {}, name),
    make("span", { data: { strategy: result.strategy } }, `${result.strategy}: ${HOW[result.strategy] ?? ""}`));
  if (result.fallback) {
    const { why, to } = result.fallback;
    how.append(make("span", { className: "fallback" }, `fallback: ${WHY[why] ?? why}, so: ${to}`));
  }
  if (result.degraded) how.append(make("span", { className: "fallback" }, "degraded"));
  const cards = result.items.map((item) => card(item.item_id, name, {
    from: { recommendation_id: result.recommendation_id, item_list_id: name, index: item.rank },
    why: item.reasons?.[0]?.text, moved: name.startsWith("product.") ? null : moved(before, item),
  }));
  ranks.set(seen, new Map(result.items.map((item) => [item.item_id, item.rank])));
  const list = make("ul", { className: "shelf" }, ...cards);
  const section = make("section", { data: { placement: name } }, make("h2", { id }, PLACEMENTS[name]), how,
    cards.length ? list : make("p", { className: "soft" }, OWN.has(name) ? "Nothing yet." : "Nothing to show."));
  section.setAttribute("aria-labelledby", id);
  return section;
}

async function range(heading, query) {
  const list = make("ul", { className: "grid" }), total = make("p", { className: "soft" });
  const more = make("button", { type: "button", data: { key: "more" } }, "Show more");
  let start = 0;
  more.onclick = async () => {
    const page = await ask(`/demo/items?${new URLSearchParams({ ...query, start })}`);
    list.append(...page.items.map((item) => card(item.item_id, "range")));
    total.textContent = page.total ? count(page.total, "product") : "Nothing; try another word.";
    start = page.next;
    more.hidden = start === null;
  };
  await more.onclick();
  return make("section", { data: { range: heading } }, make("h2", {}, heading), total, list, more);
}

function product(id) {
  const item = items.get(id);
  if (!item) return make("p", { className: "soft" }, "The catalog does not know this product.");
  const path = make("p", { className: "soft" }, (item.category ?? "").split("/").join(" › "));
  const button = make("button", { type: "button", data: { key: "add" }, disabled: !item.available,
    onclick: () => add(id) }, item.available ? "Add to cart" : "Sold out");
  return make("section", { className: "product" }, tile(item), make("div", {}, make("h1", {}, title(id)), path,
    item.brand && make("p", { className: "soft" }, `by ${item.brand}`),
    make("p", { className: "price" }, money(item.price, item.currency)), button));
}

function basket() {
  const rows = [...cart].map(([id, pieces]) => make("li", {},
    make("span", {}, `${pieces} × `), make("a", { href: link("item", id) }, title(id)),
    make("span", { className: "price" }, money(pieces * (items.get(id)?.price ?? 0), items.get(id)?.currency)),
    make("button", { type: "button", data: { key: `out${id}` }, ariaLabel: `Take ${title(id)} out of the cart`,
      onclick: () => remove(id) }, "Remove")));
  const bought = make("button", { type: "button", className: "button", id: "buy", onclick: buy }, "Buy");
  return make("section", { className: "basket" }, make("h1", {}, "Your cart"),
    rows.length ? make("ul", {}, ...rows) : make("p", { className: "soft" }, "There is nothing in it yet."),
    rows.length ? bought : null);
}

function request(name, view, value) {
  const context = { item_ids: viewed, cart_item_ids: [...cart.keys()] };
  if (name.startsWith("product.")) context.item_ids = [value];
  if (view === "category") context.category = value;
  return {
    placement: name, context, limit: name === "home.for_you" ? SHOWN_FOR_YOU : SHOWN, strict: OWN.has(name),
    include: ["reasons"],
  };
}

async function results(view, value) {
  const wanted = VIEWS[view].filter((name) => name !== "cart.complements" || cart.size);
  if (!wanted.length) return [];
  const answers = await usual.recommend(wanted.map((name) => request(name, view, value)));
  const failed = answers.find((answer) => answer.error);
  if (failed) throw Error(failed.error.detail);
  await know(answers.flatMap((answer) => [...answer.items.map((item) => item.item_id), ...answer.thanks]));
  return answers;
}

async function page(view, value) {
  if (view === "item" || view === "cart") await know(view === "item" ? [value] : [...cart.keys()]);
  const answers = await results(view, value);
  const shown = answers.map((answer) => placement(answer, view));
  if (view === "item") shown.unshift(product(value));
  if (view === "cart") shown.unshift(basket());
  if (view === "home") shown.push(await range("The whole range", {}));
  if (view === "category") shown.push(await range(value.split("/").join(" › "), { category: value }));
  if (view === "search") shown.push(await range(`Found for “${value}”`, { search: value }));
  return [shown, answers];
}

function here() {
  const [view, value = ""] = location.hash.slice(1).split("=").map(decodeURIComponent);
  return VIEWS[view] ? [view, value] : ["home", ""];
}

/** Shows what the address names. `opened`: it is new, so reading begins at its top. */
async function show(opened = false) {
  const mine = ++turn, [view, value] = here(), main = find("main");
  find("pieces").textContent = [...cart.values()].reduce((sum, n) => sum + n, 0);
  main.ariaBusy = "true";
  find("problem").hidden = true;
  try {
    const [shown, answers] = await page(view, value);
    if (mine !== turn) return; // meanwhile something else is to be shown
    const key = document.activeElement?.dataset.key;
    main.replaceChildren(...shown);
    mark(view === "category" ? value : view === "home" ? "" : null);
    about(answers);
    if (opened) {
      scrollTo(0, 0);
      main.focus({ preventScroll: true });
    } else if (key) {
      const again = [...main.querySelectorAll("[data-key]")].find((element) => element.dataset.key === key);
      (again ?? main).focus({ preventScroll: true });
    }
  } catch (error) {
    if (mine !== turn) return;
    find("problem").textContent = `The server gave no answer: ${error.message}`;
    find("problem").hidden = false;
  } finally {
    if (mine === turn) main.ariaBusy = "false";
  }
}

function mark(category) {
  for (const link of find("categories").children) {
    const current = link.dataset.category === category;
    link.ariaCurrent = current ? "page" : null;
    if (current) link.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
}

function about(answers) {
  if (!answers.length) return;
  find("known").textContent = `Segment: ${answers[0].segment.toLowerCase().replaceAll("_", " ")}`;
  const thanked = [...new Set(answers.flatMap((answer) => answer.thanks))];
  find("thanks").textContent = `Thank you for buying ${new Intl.ListFormat("en").format(thanked.map(title))}.`;
  find("thanks").hidden = !thanked.length;
  for (const answer of answers) {
    const shown = answer.items.map((item) => ({ item_id: item.item_id, index: item.rank }));
    const params = { recommendation_id: answer.recommendation_id, item_list_id: answer.placement, items: shown };
    if (shown.length) usual.track("view_item_list", params);
  }
}

/** Begin anew as somebody else: nothing of the visitor before is kept in this browser. */
function become() {
  usual.consent(false);
  cart.clear();
  led.clear();
  ranks.clear();
  viewed = [];
  find("told").replaceChildren();
  if (find("consent").checked) usual.consent(true);
  usual.identify(find("who").value);
  show();
}

async function open(fresh = true) {
  const [view, value] = here();
  if (view === "item") {
    try {
      await know([value]);
    } catch {} // `show` will say so
    tellOf("view_item", value);
    viewed = [...viewed.filter((id) => id !== value), value].slice(-VIEWED);
  }
  if (view === "search") tell("search", { search_term: value }, value);
  if (view === "cart" && cart.size) tell("view_cart", { items: lines([...cart.keys()]) }, count(cart.size, "product"));
  await show(fresh);
}

async function start() {
  const shop = await ask("/demo/shop");
  const shelf = (path, text) => {
    const href = path ? link("category", path) : "#home";
    return make("a", { href, title: path, data: { category: path } }, text);
  };
  const shelves = shop.categories.map(({ category }) => shelf(category, leaf(category)));
  find("categories").append(shelf("", "All"), ...shelves);
  find("who").append(make("option", { value: "" }, "somebody new"), ...shop.customers.map(
    ({ customer_id, segment, orders }) => make("option", { value: customer_id },
      `${customer_id} (${segment.toLowerCase().replaceAll("_", " ")}, ${count(orders, "order")})`)));
  find("who").onchange = find("consent").onchange = become;
  find("visitor").onsubmit = (event) => event.preventDefault();
  find("search").onsubmit = (event) => {
    event.preventDefault();
    const words = find("words").value.trim();
    if (words) location.hash = link("search", words);
  };
  find("skip").onclick = (event) => {
    event.preventDefault(); // the address says what is shown
    find("main").focus();
  };
  addEventListener("hashchange", () => open());
  await open(false);
}

start().catch((error) => {
  find("problem").textContent = `The demo could not start: ${error.message}`;
  find("problem").hidden = false;
});
