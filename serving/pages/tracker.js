// The Usual: docs/storefront.md
{
  const script = document.currentScript, { key, url, clientId } = script.dataset;
  const base = url || new URL(script.src).origin;
  const EVENT = "usual.event.", CLIENT = "usual.client", BATCH = 20, LIMIT = 200, WAIT_MS = 1e3;
  const id = () => crypto.randomUUID?.() || crypto.getRandomValues(new Uint32Array(4)).join("-");
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const visit_id = id();
  let refused = script.dataset.consent == "false", consent, customer, timer, fails = 0, last = Promise.resolve();
  let joining, token, proof, askedAt, stale = 0; // in memory only: whoever has the token is the customer

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

  const ids = () => ({ customer_id: customer, session_id: session().id });
  const client = () => clientId || /^u1\./.test(box[CLIENT]) && box[CLIENT] || undefined;

  // A function is asked again after five minutes, as events with an expired token are not the customer's; after a
  // failure in ten seconds.
  const prove = () => {
    if (typeof token == "function" && !(Date.now() - askedAt < 3e5)) {
      askedAt = Date.now();
      proof = Promise.race([pause(3e3), Promise.resolve().then(token)]).catch(() => {});
      proof.then((text) => text || (askedAt -= 29e4));
    }
    return proof;
  };

  // Not sendBeacon: it sets no headers, and no key may be in a URL. `keepalive` outlives the page too, up to 64 kB.
  const post = (path, body, proof) => fetch(base + path, {
    method: "POST",
    body,
    keepalive: body.length < 2e4,
    signal: AbortSignal.timeout?.(1e4),
    headers: {
      "Content-Type": "application/json",
      ...key && { Authorization: "Bearer " + key },
      ...proof && { "X-Visitor-Token": proof },
    },
  });

  const call = async (path, build, repeat) => {
    const text = !refused && await prove(), device = client(), body = build();
    if (!body) return [];
    // The page of an error is no token, and would be no header.
    const answer = await post(path, body, !refused && /^\s*[\w.-]{1,4096}\s*$/.test(text || "") && text);
    const data = await answer.json().catch(() => ({})), status = answer.headers.get("X-Visitor-Token-Status");
    if (status == "valid") stale = 0;
    if (/^(exp|liv)/.test(status) && typeof token == "function" && !stale++) {
      askedAt = 0;
      if (repeat) return call(path, build);
    }
    // Where a customer is named, it may be they who are unproven. Once a session: no loops.
    const unproven = data.unproven || data.results?.some((result) => result.identity == "unproven");
    if (unproven && !/"customer_id"/.test(body) && device && device == client()
      && !session({ renewed: 1 }).renewed) drop([CLIENT]);
    return [answer, data];
  };

  // An entry per event: tabs cannot overwrite each other's. One sent twice has the same event_id. The device's id,
  // for which events wait, is added here.
  const send = async (want) => {
    timer = clearTimeout(timer);
    if (refused || joining || want != CLIENT && !names(EVENT).length) return;
    let answer, done, batch;
    try {
      if (joining = !client()) {
        answer = await post("/v1/clients", "");
        const { client_id } = await answer.json();
        if (client_id && !refused && !client()) put(CLIENT, client_id);
        joining = false;
      }
      if (client()) {
        [answer] = await call("/v1/events", () => {
          const end = `,"client_id":${JSON.stringify(client())}}`;
          batch = refused ? [] : names(EVENT).slice(0, BATCH);
          return batch.length && `{"events":[${batch.map((name) => box[name].slice(0, -1) + end)}]}`;
        });
        done = !batch.length || /202|400|413|422/.test(answer.status); // stored or refused
      }
    } catch {}
    joining = false;
    if (done) {
      drop(batch);
      fails = 0;
      if (names(EVENT).length) later(0);
    } else if (!refused) {
      const backoff = Math.min(6e4, WAIT_MS * 2 ** fails++) * (1 + Math.random());
      later(Math.max(backoff, answer?.headers.get("Retry-After") * 1e3 || 0));
    }
  };
  const flush = (want) => last = last.then(() => send(want));
  const later = (ms) => timer ??= setTimeout(flush, ms);

  const track = (name, { recommendation_id, ...params } = {}) => {
    if (refused) return;
    const event_id = id(), timestamp = new Date(), agent = navigator.userAgent, { source } = session();
    const device = /Mobi/.test(agent) ? "mobile" : /Android|Tablet/.test(agent) ? "tablet" : "desktop";
    const event = { event_id, name, timestamp, ...ids(), source, device, consent, recommendation_id, params };
    put(EVENT + +timestamp + event_id, JSON.stringify(event));
    drop(names(EVENT).slice(0, -LIMIT));
    later(fails || client() && names(EVENT).length < BATCH ? WAIT_MS : 0);
    return event_id;
  };

  window.usual = {
    track,
    // Waits a little: what was tracked then counts, and the device has its id.
    async recommend(requests, options) {
      if (!fails) await Promise.race([flush(CLIENT), pause(500)]);
      const [answer, data] = await call("/v1/recommendations", () => {
        const visitor = refused ? { session_id: visit_id } : { ...ids(), client_id: client() };
        return JSON.stringify({ requests: [requests].flat().map((one) => ({ ...visitor, ...one })), ...options });
      }, true);
      if (!data.results) throw Object.assign(Error(data.detail || answer.status), data);
      return data.results;
    },
    identify(customer_id, visitorToken) {
      const before = customer;
      customer = customer_id ? customer_id + "" : undefined;
      token = (customer || clientId) && visitorToken;
      if (customer != before || typeof token != "function") {
        proof = token;
        askedAt = stale = 0;
      }
      if (!refused && customer && session({ customer }).customer != customer) track("login");
    },
    clientId: () => refused ? undefined : client(),
    consent(granted) {
      refused = !(consent = granted);
      if (refused) drop(names("usual."));
    },
  };

  // What an earlier page could not; by then this one has said who the customer is.
  if (names(EVENT).length) later(WAIT_MS);
  ["online", "pagehide", "visibilitychange"].forEach((name) => addEventListener(name, () => send()));
}
