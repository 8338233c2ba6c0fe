// A minimal storefront: it shows slates of The Usual and sends events to it. Whatever comes from the catalog gets into
// the page as text, never as HTML.

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
// Placements of the visitor's own items: empty rather than filled up with best sellers.
const OWN = new Set(["recently_viewed", "buy_again"]);
const LIMIT = 8, FOR_YOU_LIMIT = 12, MAX_VIEWED = 20, MAX_EVENTS = 12;

const find = (id) => document.getElementById(id);
const items = new Map(); // catalog entries loaded so far, by item_id
const cart = new Map(); // quantities by item_id
const attributions = new Map(); // the slate that led to an item: recommendation_id, item_list_id, index
const previousRanks = new Map(); // by view and placement: ranks in the previous slate
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

async function fetchJson(path, body) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, body && options);
  const content = await response.json();
  if (!response.ok) throw Error(content.detail);
  content.items?.forEach((item) => items.set(item.item_id, item));
  return content;
}

async function loadItems(ids) {
  const unknown = ids.filter((id) => !items.has(id));
  if (unknown.length) await fetchJson("/demo/items", { item_ids: unknown });
}

// ---- events

function lines(ids, pieces = () => 1) {
  return ids.map((id) => {
    const { recommendation_id, ...position } = attributions.get(id) ?? {};
    return { item_id: id, price: items.get(id)?.price, quantity: pieces(id), ...position };
  });
}

function trackEvent(name, params, about) {
  if (!usual.track(name, params)) return;
  find("event-log").prepend(make("li", {}, make("code", {}, name), " ", about));
  while (find("event-log").children.length > MAX_EVENTS) find("event-log").lastChild.remove();
}

function trackItem(name, id) {
  const item = items.get(id);
  const params = { currency: item?.currency ?? undefined, recommendation_id: attributions.get(id)?.recommendation_id };
  trackEvent(name, { ...params, items: lines([id]) }, title(id));
}

function add(id) {
  cart.set(id, (cart.get(id) ?? 0) + 1);
  trackItem("add_to_cart", id);
  announce(`${title(id)} is in the cart`);
  render();
}

function remove(id) {
  cart.delete(id);
  trackItem("remove_from_cart", id);
  announce(`${title(id)} is out of the cart`);
  render();
}

function buy() {
  const ids = [...cart.keys()];
  const purchases = lines(ids, (id) => cart.get(id)).map((line) => ({ ...line, price: line.price ?? 0 }));
  const value = purchases.reduce((sum, line) => sum + line.price * line.quantity, 0);
  const currency = items.get(ids[0])?.currency ?? undefined;
  const transaction_id = `demo-${crypto.randomUUID()}`;
  trackEvent("purchase", { transaction_id, value, currency, items: purchases }, ids.map(title).join(", "));
  cart.clear();
  location.hash = "home";
}

function announce(text) {
  find("announcement").textContent = text;
}

// ---- pages

function tile(item) {
  const hue = [...(item.category ?? "")].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 360, 7);
  const element = make("span", { className: "tile", ariaHidden: "true" }, leaf(item.category).slice(0, 1) || "·");
  element.style.setProperty("--hue", hue);
  return element;
}

function rankChange(before, rank) {
  if (before === undefined) return null;
  const was = before.get(rank.item_id);
  if (was === rank.rank) return null;
  const text = was === undefined ? "new here" : was > rank.rank ? `up ${was - rank.rank}` : `down ${rank.rank - was}`;
  return make("span", { className: was === undefined || was > rank.rank ? "rank-change up" : "rank-change" }, text);
}

function card(id, place, more = {}) {
  const item = items.get(id) ?? { item_id: id, title: id };
  const about = [leaf(item.category), item.brand].filter(Boolean).join(" · ");
  const attribute = () => { // returns nothing: false would keep a link from being followed
    if (more.from) attributions.set(id, more.from);
    else attributions.delete(id);
  };
  const button = item.available === false ? make("p", { className: "soft" }, "sold out") : make("button", {
    type: "button", data: { key: `${place}+${id}` }, ariaLabel: `Add ${title(id)} to the cart`,
    onclick: () => { attribute(); add(id); },
  }, "Add to cart");
  const select = () => {
    attribute();
    if (more.from) trackItem("select_item", id);
  };
  const name = make("a", { href: link("item", id), data: { key: `${place}>${id}` }, onclick: select }, title(id));
  const price = make("p", { className: "price" }, money(item.price, item.currency));
  return make("li", { className: "card", data: { item: id } }, tile(item), more.rankChange, make("h3", {}, name),
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

function placementSection(result, view) {
  const name = result.placement, key = `${view} ${name}`, before = previousRanks.get(key), id = `of-${name}`;
  const how = make("p", { className: "how" }, make("code", {}, name),
    make("span", { data: { strategy: result.strategy } }, `${result.strategy}: ${HOW[result.strategy] ?? ""}`));
  if (result.fallback) {
    const { why, to } = result.fallback;
    how.append(make("span", { className: "fallback" }, `fallback: ${WHY[why] ?? why}, so: ${to}`));
  }
  if (result.degraded) how.append(make("span", { className: "fallback" }, "degraded"));
  const cards = result.items.map((item) => card(item.item_id, name, {
    from: { recommendation_id: result.recommendation_id, item_list_id: name, index: item.rank },
    why: item.reasons?.[0]?.text, rankChange: name.startsWith("product.") ? null : rankChange(before, item),
  }));
  previousRanks.set(key, new Map(result.items.map((item) => [item.item_id, item.rank])));
  const list = make("ul", { className: "slate" }, ...cards);
  const section = make("section", { data: { placement: name } }, make("h2", { id }, PLACEMENTS[name]), how,
    cards.length ? list : make("p", { className: "soft" }, OWN.has(name) ? "Nothing yet." : "Nothing to show."));
  section.setAttribute("aria-labelledby", id);
  return section;
}

async function catalogSection(heading, query) {
  const list = make("ul", { className: "grid" }), total = make("p", { className: "soft" });
  const more = make("button", { type: "button", data: { key: "more" } }, "Show more");
  let start = 0;
  more.onclick = async () => {
    const page = await fetchJson(`/demo/items?${new URLSearchParams({ ...query, start })}`);
    list.append(...page.items.map((item) => card(item.item_id, "range")));
    total.textContent = page.total ? count(page.total, "product") : "Nothing; try another word.";
    start = page.next;
    more.hidden = start === null;
  };
  await more.onclick();
  return make("section", { data: { range: heading } }, make("h2", {}, heading), total, list, more);
}

function productSection(id) {
  const item = items.get(id);
  if (!item) return make("p", { className: "soft" }, "The catalog does not know this product.");
  const path = make("p", { className: "soft" }, (item.category ?? "").split("/").join(" › "));
  const button = make("button", { type: "button", data: { key: "add" }, disabled: !item.available,
    onclick: () => add(id) }, item.available ? "Add to cart" : "Sold out");
  return make("section", { className: "product" }, tile(item), make("div", {}, make("h1", {}, title(id)), path,
    item.brand && make("p", { className: "soft" }, `by ${item.brand}`),
    make("p", { className: "price" }, money(item.price, item.currency)), button));
}

function cartSection() {
  const rows = [...cart].map(([id, pieces]) => make("li", {},
    make("span", {}, `${pieces} × `), make("a", { href: link("item", id) }, title(id)),
    make("span", { className: "price" }, money(pieces * (items.get(id)?.price ?? 0), items.get(id)?.currency)),
    make("button", { type: "button", data: { key: `out${id}` }, ariaLabel: `Take ${title(id)} out of the cart`,
      onclick: () => remove(id) }, "Remove")));
  const buyButton = make("button", { type: "button", className: "button", id: "buy", onclick: buy }, "Buy");
  return make("section", { className: "basket" }, make("h1", {}, "Your cart"),
    rows.length ? make("ul", {}, ...rows) : make("p", { className: "soft" }, "There is nothing in it yet."),
    rows.length ? buyButton : null);
}

function request(name, view, value) {
  const context = { item_ids: viewed, cart_item_ids: [...cart.keys()] };
  if (name.startsWith("product.")) context.item_ids = [value];
  if (view === "category") context.category = value;
  return {
    placement: name, context, limit: name === "home.for_you" ? FOR_YOU_LIMIT : LIMIT, strict: OWN.has(name),
    include: ["reasons"],
  };
}

async function fetchSlates(view, value) {
  const names = VIEWS[view].filter((name) => name !== "cart.complements" || cart.size);
  if (!names.length) return [];
  const answers = await usual.recommend(names.map((name) => request(name, view, value)));
  const failed = answers.find((answer) => answer.error);
  if (failed) throw Error(failed.error.detail);
  await loadItems(answers.flatMap((answer) => [...answer.items.map((item) => item.item_id), ...answer.thanks]));
  return answers;
}

async function buildPage(view, value) {
  if (view === "item" || view === "cart") await loadItems(view === "item" ? [value] : [...cart.keys()]);
  const answers = await fetchSlates(view, value);
  const sections = answers.map((answer) => placementSection(answer, view));
  if (view === "item") sections.unshift(productSection(value));
  if (view === "cart") sections.unshift(cartSection());
  if (view === "home") sections.push(await catalogSection("The whole range", {}));
  if (view === "category") sections.push(await catalogSection(value.split("/").join(" › "), { category: value }));
  if (view === "search") sections.push(await catalogSection(`Found for “${value}”`, { search: value }));
  return [sections, answers];
}

function currentView() {
  const [view, value = ""] = location.hash.slice(1).split("=").map(decodeURIComponent);
  return VIEWS[view] ? [view, value] : ["home", ""];
}

/** Render the view in the address. `opened`: the view is new, so focus and scroll go to its top. */
async function render(opened = false) {
  const ownTurn = ++turn, [view, value] = currentView(), main = find("main");
  find("pieces").textContent = [...cart.values()].reduce((sum, n) => sum + n, 0);
  main.ariaBusy = "true";
  find("problem").hidden = true;
  try {
    const [sections, answers] = await buildPage(view, value);
    if (ownTurn !== turn) return; // a later render has begun
    const key = document.activeElement?.dataset.key;
    main.replaceChildren(...sections);
    markCategory(view === "category" ? value : view === "home" ? "" : null);
    reportAnswers(answers);
    if (opened) {
      scrollTo(0, 0);
      main.focus({ preventScroll: true });
    } else if (key) {
      const element = [...main.querySelectorAll("[data-key]")].find(({ dataset }) => dataset.key === key);
      (element ?? main).focus({ preventScroll: true });
    }
  } catch (error) {
    if (ownTurn !== turn) return;
    find("problem").textContent = `The server gave no answer: ${error.message}`;
    find("problem").hidden = false;
  } finally {
    if (ownTurn === turn) main.ariaBusy = "false";
  }
}

function markCategory(category) {
  for (const link of find("categories").children) {
    const current = link.dataset.category === category;
    link.ariaCurrent = current ? "page" : null;
    if (current) link.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
}

function reportAnswers(answers) {
  if (!answers.length) return;
  find("segment").textContent = `Segment: ${answers[0].segment.toLowerCase().replaceAll("_", " ")}`;
  find("identity").textContent = `Identity: ${answers[0].identity}`;
  const purchases = [...new Set(answers.flatMap((answer) => answer.thanks))];
  find("thanks").textContent = `Thank you for buying ${new Intl.ListFormat("en").format(purchases.map(title))}.`;
  find("thanks").hidden = !purchases.length;
  for (const answer of answers) {
    const positions = answer.items.map((item) => ({ item_id: item.item_id, index: item.rank }));
    const params = { recommendation_id: answer.recommendation_id, item_list_id: answer.placement, items: positions };
    if (positions.length) usual.track("view_item_list", params);
  }
}

/** What the server of a shop does for a customer who has logged in there. */
async function fetchToken(customer_id) {
  return (await fetchJson("/demo/token", { customer_id })).token;
}

/** Become another visitor: nothing of the previous one stays in this browser. */
function switchVisitor() {
  usual.consent(false);
  cart.clear();
  attributions.clear();
  previousRanks.clear();
  viewed = [];
  find("event-log").replaceChildren();
  if (find("consent").checked) usual.consent(true);
  const customer = find("customer").value;
  usual.identify(customer, () => fetchToken(customer));
  render();
}

async function openView(fresh = true) {
  const [view, value] = currentView();
  if (view === "item") {
    try {
      await loadItems([value]);
    } catch {} // `render` reports it
    trackItem("view_item", value);
    viewed = [...viewed.filter((id) => id !== value), value].slice(-MAX_VIEWED);
  }
  if (view === "search") trackEvent("search", { search_term: value }, value);
  if (view === "cart" && cart.size) trackEvent("view_cart", { items: lines([...cart.keys()]) }, count(cart.size, "product"));
  await render(fresh);
}

async function start() {
  const shop = await fetchJson("/demo/shop");
  const categoryLink = (path, text) => {
    const href = path ? link("category", path) : "#home";
    return make("a", { href, title: path, data: { category: path } }, text);
  };
  const links = shop.categories.map(({ category }) => categoryLink(category, leaf(category)));
  find("categories").append(categoryLink("", "All"), ...links);
  find("customer").append(make("option", { value: "" }, "somebody new"), ...shop.customers.map(
    ({ customer_id, segment, orders }) => make("option", { value: customer_id },
      `${customer_id} (${segment.toLowerCase().replaceAll("_", " ")}, ${count(orders, "order")})`)));
  find("customer").onchange = find("consent").onchange = switchVisitor;
  find("visitor").onsubmit = (event) => event.preventDefault();
  find("search").onsubmit = (event) => {
    event.preventDefault();
    const words = find("words").value.trim();
    if (words) location.hash = link("search", words);
  };
  find("skip").onclick = (event) => {
    event.preventDefault(); // the address names the view
    find("main").focus();
  };
  addEventListener("hashchange", () => openView());
  await openView(false);
}

start().catch((error) => {
  find("problem").textContent = `The demo could not start: ${error.message}`;
  find("problem").hidden = false;
});
