// The Usual: docs/storefront.md
{
  const script = document.currentScript, { key, url } = script.dataset;
  const base = url || new URL(script.src).origin;
  const EVENT = "usual.event.", BATCH = 20, LIMIT = 200, WAIT_MS = 1e3;
  const id = () => crypto.randomUUID?.() || crypto.getRandomValues(new Uint32Array(4)).join("-");
  const visit_id = id();
  let refused = script.dataset.consent == "false", consent, customer, timer, fails = 0, last = Promise.resolve();

  // Or an object, where storage is denied or full.
  let box = {};
  try { box = localStorage || box; } catch {}
  const put = (name, text) => { try { box[name] = text; } catch { box = { ...box, [name]: text }; } };
  const names = (prefix) => Object.keys(box).filter((name) => name.startsWith(prefix)).sort();
  const drop = (list) => list.forEach((name) => delete box[name]);

  const session = (more) => {
    let at = Date.now(), visit = {};
    try { visit = JSON.parse(box["usual.session"]); } catch {}
    if (!(at - visit.at < 18e5)) {
      const from = document.referrer.split("/")[2];
      const source = new URL(location).searchParams.get("utm_source") || from != location.host && from || "direct";
      visit = { id: id(), source };
    }
    put("usual.session", JSON.stringify({ ...visit, at, ...more }));
    return visit;
  };

  const ids = () => {
    if (!box["usual.client"]) put("usual.client", id());
    return { client_id: box["usual.client"], customer_id: customer, session_id: session().id };
  };

  // Not sendBeacon: it sets no headers, and no key may be in a URL. `keepalive` outlives the page too, up to 64 kB.
  const post = (path, body) => fetch(base + path, {
    method: "POST",
    body,
    keepalive: body.length < 2e4,
    signal: AbortSignal.timeout?.(1e4),
    headers: { "Content-Type": "application/json", ...key && { Authorization: "Bearer " + key } },
  });

  // An entry per event: tabs cannot overwrite each other's. One sent twice has the same event_id.
  const send = async () => {
    timer = clearTimeout(timer);
    const batch = names(EVENT).slice(0, BATCH);
    if (refused || !batch.length) return;
    const answer = await post("/v1/events", `{"events":[${batch.map((name) => box[name])}]}`).catch(() => {});
    if (/202|400|413|422/.test(answer?.status)) { // stored or refused
      drop(batch);
      fails = 0;
      if (names(EVENT).length) later(0);
    } else {
      const backoff = Math.min(6e4, WAIT_MS * 2 ** fails++) * (1 + Math.random());
      later(Math.max(backoff, answer?.headers.get("Retry-After") * 1e3 || 0));
    }
  };
  const flush = () => last = last.then(send);
  const later = (ms) => timer ??= setTimeout(flush, ms);

  const track = (name, { recommendation_id, ...params } = {}) => {
    if (refused) return;
    const event_id = id(), timestamp = new Date(), agent = navigator.userAgent, { source } = session();
    const device = /Mobi/.test(agent) ? "mobile" : /Android|Tablet/.test(agent) ? "tablet" : "desktop";
    const event = { event_id, name, timestamp, ...ids(), source, device, consent, recommendation_id, params };
    put(EVENT + +timestamp + event_id, JSON.stringify(event));
    drop(names(EVENT).slice(0, -LIMIT));
    names(EVENT).length < BATCH || fails ? later(WAIT_MS) : flush();
    return event_id;
  };

  window.usual = {
    track,
    // Waits a little: what was tracked then counts.
    async recommend(requests, options) {
      if (!fails) await Promise.race([flush(), new Promise((done) => setTimeout(done, 500))]);
      const visitor = refused ? { session_id: visit_id } : ids();
      const body = { requests: [requests].flat().map((one) => ({ ...visitor, ...one })), ...options };
      const answer = await post("/v1/recommendations", JSON.stringify(body)), data = await answer.json();
      if (!answer.ok) throw Object.assign(Error(data.detail), data);
      return data.results;
    },
    identify(customer_id) {
      customer = customer_id ? customer_id + "" : undefined;
      if (!refused && customer && session({ customer }).customer != customer) track("login");
    },
    consent(granted) {
      refused = !(consent = granted);
      if (refused) drop(names("usual."));
    },
  };

  send(); // what an earlier page could not
  ["online", "pagehide", "visibilitychange"].forEach((name) => addEventListener(name, send));
}
