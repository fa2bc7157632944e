"use strict";
/* Shows /status every two seconds. Every text is set as text, never as markup. */
(() => {
  const EVERY = 2000, PATIENCE = 5000, TOP = 8, VERSION = 1, MOVED = 0.2;
  const $ = (id) => document.getElementById(id);
  let last = null, heard = 0, described = null, showing = document.visibilityState !== "hidden";

  // Words

  const count = (v) => v == null ? "–" : v.toLocaleString("en", { maximumFractionDigits: v < 10 ? 1 : 0 });
  const brief = (v) => v < 1e6 ? count(v) : v.toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 });
  const plural = (v, word) => `${count(v)} ${word}${count(v) === "1" ? "" : "s"}`;
  const share = (v) => v == null ? "–" : v > 0 && v < 0.001 ? "< 0.1 %" : `${(v * 100).toFixed(v >= 0.1 || v === 0 ? 0 : 1)} %`;
  const three = (v) => Number(v.toPrecision(v < 10 ? 2 : 3)).toLocaleString("en", { maximumFractionDigits: 2 });
  function duration(s) {
    if (s == null) return "–";
    if (s < 1) return `${(s * 1000).toFixed(s < 0.001 ? 2 : s < 0.01 ? 1 : 0)} ms`;
    if (s < 60) return `${three(s)} s`;
    if (s < 600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
    return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`;
  }
  const quantile = (q) => q == null ? "–" : (q.beyond ? "> " : "") + duration(q.value);
  function bytes(v) {
    if (v == null) return "–";
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let step = 0;
    while (v >= 1024 && step < units.length - 1) { v /= 1024; step += 1; }
    return `${three(v)} ${units[step]}`;
  }
  const moment = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

  // Elements

  function text(node, said) { if (node.textContent !== said) node.textContent = said; }
  function put(id, said) { text($(id), said); }
  function make(name, classes, said) {
    const node = document.createElement(name);
    if (classes) node.className = classes;
    if (said != null) node.textContent = said;
    return node;
  }
  function bar(of, mark) {
    const box = make("span", "bar"), fill = make("i");
    box.setAttribute("aria-hidden", "true");
    fill.style.setProperty("--share", `${Math.max(0, Math.min(1, of)) * 100}%`);
    box.append(fill);
    if (mark) box.append(make("b"));
    return box;
  }
  /* Rows of a table; a cell is a text, or the share of a bar. What is there is changed, not made anew. */
  function rows(table, list) {
    const body = $(table).tBodies[0];
    while (body.rows.length > list.length) body.lastElementChild.remove();
    list.forEach((row, number) => {
      const line = body.rows[number] || body.insertRow();
      if (line.className !== (row.kind || "")) line.className = row.kind || "";
      if (row.title) line.title = row.title;
      row.cells.forEach((cell, place) => {
        let node = line.cells[place];
        if (!node) {
          node = make(place ? "td" : "th", place && !cell.bar && !cell.words ? "n" : "");
          if (!place) node.scope = "row";
          line.append(node);
        }
        if (cell.bar) {
          const fill = node.querySelector("i");
          if (fill) fill.style.setProperty("--share", `${Math.max(0, Math.min(1, cell.of)) * 100}%`);
          else node.append(bar(cell.of, cell.mark));
        } else text(node, cell.words ?? cell);
      });
    });
    $(table).hidden = !list.length;
  }
  const open = new Set();
  /* The first few of a list, and a button for the rest. */
  function some(name, list, what) {
    const button = $(`${name}-more`), more = list.length - TOP;
    button.hidden = more <= 0;
    const all = open.has(name);
    text(button, all ? `Only the first ${TOP}` : `and ${plural(more, what)} more`);
    button.setAttribute("aria-expanded", String(all));
    return all ? list : list.slice(0, TOP);
  }
  for (const name of ["labels", "partitions", "drift"]) {
    $(`${name}-more`).addEventListener("click", () => {
      if (!open.delete(name)) open.add(name);
      if (last) figures(last);
    });
  }
  function facts(id, pairs) {
    const list = $(id), wanted = pairs.filter(([, said]) => said != null && said !== "");
    while (list.children.length > 2 * wanted.length) list.lastElementChild.remove();
    wanted.forEach(([name, said], number) => {
      if (!list.children[2 * number]) list.append(make("dt"), make("dd"));
      text(list.children[2 * number], name);
      text(list.children[2 * number + 1], said);
    });
  }

  // Parts

  function verdict(view) {
    const { state, title, says, findings, watched } = view.verdict;
    $("verdict").dataset.state = state;
    put("title", title);
    const judged = watched < 600 ? ` Watched for ${duration(Math.round(watched))} so far; alerts look at minutes.` : "";
    put("says", watched > 0 || state !== "well" ? says + (state === "well" ? judged : "") : `${says} That is at first sight.`);
    const first = findings[0], told = first && first.title === title;
    $("todo").hidden = !told;
    if (told) reference($("todo"), "What to do: ", first);
    const others = findings.slice(told ? 1 : 0);
    $("others").hidden = !others.length;
    $("others").replaceChildren(...others.map((one) => {
      const item = make("li"), ref = make("span", "ref");
      reference(ref, "", one);
      item.append(make("span", `level ${one.severity}`, one.severity), make("strong", "", one.title), ` ${one.says}`, ref);
      return item;
    }));
    document.title = `${{ well: "✓", look: "!", "not-well": "✕" }[state] || "…"} ${title.replace(/\.$/, "")} – Winnow`;
  }
  function reference(node, before, finding) {
    node.replaceChildren(before, make("code", "", finding.runbook), ` (alert ${finding.alert})`);
  }

  function who(view) {
    const w = view.worker;
    put("who", [location.host, w.group && `group ${w.group}`, w.delivery && w.delivery.replaceAll("-", " ")].filter(Boolean).join(" · "));
    put("versions", [w.version && `Winnow ${w.version}`, w.python && `Python ${w.python}`].filter(Boolean).join(", "));
  }

  function course(points) {
    const [area, line] = $("course").children;
    const most = Math.max(...points.map((p) => p.rate), 1e-9);
    if (points.length < 2 || most < 1e-6) { line.removeAttribute("d"); area.removeAttribute("d"); return 0; }
    const from = points[0].at, long = points[points.length - 1].at - from;
    const path = points.map(({ at, rate }) => `${((at - from) / long * 100).toFixed(2)} ${(28.5 - rate / most * 26).toFixed(2)}`).join("L");
    line.setAttribute("d", `M${path}`);
    area.setAttribute("d", `M0 30L${path}L100 30Z`);
    return most;
  }

  function tiles(view) {
    const { rate, lag, load, dead_letters: dead } = view;
    put("rate", rate.delivered == null ? "–" : brief(rate.delivered));
    const most = course(view.course);
    put("course-says", most ? `acknowledged; at most ${count(most)} in ${duration(Math.round(view.course[view.course.length - 1].at - view.course[0].at))}` : `acknowledged, ${over(view)}`);
    put("late", quantile(view.end_to_end.p99));
    put("late-says", view.end_to_end.messages ? `end to end; half within ${quantile(view.end_to_end.p50)}` : "end to end; no messages");
    put("lag", brief(lag.messages));
    const growth = lag.growth == null || Math.abs(lag.growth) < 0.5 ? "" : `, ${lag.growth > 0 ? "growing" : "falling"} by ${count(Math.abs(lag.growth))}/s`;
    put("lag-says", lag.messages == null ? "not known yet" : `messages${growth}`);
    put("dead", dead.share == null ? "–" : share(dead.share));
    put("dead-says", dead.since_start ? `of what was read; ${count(dead.since_start)} since start` : "none since the start");
    put("lanes", load.lanes == null ? "–" : `${count(load.lanes_busy)} of ${count(load.lanes)}`);
    put("lanes-says", load.in_flight == null ? "" : `${count(load.in_flight)}${load.in_flight_limit ? ` of ${count(load.in_flight_limit)}` : ""} in flight${load.paused ? ", paused" : ""}`);
  }
  const over = (view) => view.window.since_start ? "since the start" : `over the last ${duration(Math.round(view.window.seconds))}`;

  function labels(view) {
    const found = view.labels.filter((one) => one.count), entities = view.entities.filter((one) => one.count);
    const list = found.length ? found : entities;
    put("labels-what", found.length || !entities.length ? "Label" : "Entity");
    $("labels-none").hidden = list.length > 0;
    rows("labels", some("labels", list, "label").map((one) => ({ cells: [one.name, { bar: true, of: one.share }, share(one.share), count(one.count)] })));
    const said = (before, all, words) => {
      const there = all.filter((one) => one.count);
      return there.length ? [`${before}: ${there.map(words).join(", ")}.`] : [];
    };
    const also = [
      ...said("Decided", view.actions, (one) => `${one.name} ${share(one.share)}`),
      ...said("Done", view.exits, (one) => `${share(one.share)} after ${one.name} layers`),
    ];
    if (view.cache.hits) also.push(`${share(view.cache.hits)} were known from the cache.`);
    put("labels-says", also.join(" "));
  }

  const STAGES = { infer_rest: "infer, rest" };
  function latency(view) {
    const row = (name, one, kind) => ({ kind, cells: [name, quantile(one.p50), quantile(one.p95), quantile(one.p99)] });
    rows("latency", [
      row("End to end", view.end_to_end), row("In the worker", view.inside),
      ...Object.entries(view.stages).map(([name, one]) => row(STAGES[name] || name, one, "sub")),
    ]);
  }

  function partitions(view) {
    const { partitions: list, more } = view.lag, most = Math.max(...list.map((one) => one.messages), 1);
    const topics = new Set(list.map((one) => one.topic));
    put("partitions-none", view.lag.messages == null ? "It is not known yet." : "It has no partitions.");
    $("partitions-none").hidden = list.length > 0;
    const shown = some("partitions", list, "partition");
    const box = $("partitions-box"), all = shown.length > TOP;
    box.classList.toggle("open", all);
    if (all) box.tabIndex = 0; else box.removeAttribute("tabindex");
    rows("partitions", shown.map((one) => ({
      cells: [topics.size > 1 ? `${one.topic} ${one.partition}` : String(one.partition), { bar: true, of: one.messages / most }, count(one.messages), one.seconds ? duration(one.seconds) : "–"],
    })));
    const done = (view.lag.committed ?? 0) - view.lag.messages, behind = done > 0 ? ` ${count(done)} done and not committed yet.` : "";
    put("partitions-says", list.length ? `${plural(list.length + more, "partition")}${topics.size === 1 ? ` of ${[...topics][0]}` : ""}, ${list.filter((one) => one.messages).length} with lag.${behind}` : "");
  }

  function reasons(view) {
    const { reasons: list, since_start: all } = view.dead_letters;
    $("reasons-none").hidden = all > 0;
    rows("reasons", list.map((one) => ({ cells: [one.reason, { words: one.stage }, count(one.count), count(one.since_start)] })));
    put("reasons-says", all > 0 ? `“Lately” is ${over(view)}.` : "");
  }

  function batches(view) {
    const { batches: b } = view;
    $("batches-none").hidden = b.count > 0;
    $("batches").hidden = !b.count;
    const most = Math.max(...b.messages.map((one) => one.count), 1);
    let before = 0;
    const list = b.messages.map((one) => {
      const name = one.most == null ? `> ${before}` : one.most === before + 1 ? `${one.most}` : `${before + 1}–${one.most}`;
      before = one.most;
      return [name, one.count];
    });
    while (list.length > 6 && !list[list.length - 1][1]) list.pop();
    const box = $("sizes");
    while (box.children.length > list.length) box.lastElementChild.remove();
    while (box.children.length < list.length) {
      const item = make("li"), room = make("span", "room");
      room.setAttribute("aria-hidden", "true");
      room.append(make("i"));
      item.append(room, make("span"), make("span", "off"));
      box.append(item);
    }
    list.forEach(([name, told], number) => {
      const [room, label, said] = box.children[number].children;
      room.firstChild.style.setProperty("--share", `${told / most * 100}%`);
      room.firstChild.style.visibility = told ? "" : "hidden";
      text(label, name);
      text(said, ` messages: ${plural(told, "batch").replace(/batchs$/, "batches")}`);
    });
    rows("closed", b.closed.filter((one) => one.count).map((one) => ({ cells: [one.name, { bar: true, of: one.share }, share(one.share), count(one.count)] })));
    put("batches-says", b.count ? `On average ${plural(b.mean_messages, "message")} and ${plural(b.mean_tokens, "token")}, of which ${share(b.padding)} padding.` : "");
  }

  function drift(view) {
    const { labels: list, seconds } = view.drift, none = !list.length;
    $("drift-none").hidden = !none;
    put("drift-none", view.drift.has_reference || !view.worker.digest ? "No results yet." : "The bundle has no reference of scores.");
    rows("drift", some("drift", list, "label").map((one) => ({
      kind: !one.enough ? "few" : one.distance > MOVED ? "over" : "",
      cells: [one.label, { bar: true, of: one.distance, mark: true }, `${one.distance.toFixed(3)}${!one.enough ? " too few" : one.distance > MOVED ? " moved" : ""}`, count(one.results)],
    })));
    const worst = list[0];
    put("drift-says", none ? "" : !worst.enough ? "Few results say little: up to 500 of a label are not judged." : `Largest for ${worst.label}: ${share(worst.share)} of its scores are at most ${worst.score}, of the reference texts ${share(worst.reference)}. Over ${duration(Math.round(seconds))}. Beyond ${MOVED}, the mark, an alert fires.`);
  }

  function load(view) {
    const l = view.load;
    facts("load", [
      ["Lanes busy", l.lanes == null ? null : `${count(l.lanes_busy)} of ${count(l.lanes)}`],
      ["In flight", l.in_flight == null ? null : `${count(l.in_flight)}${l.in_flight_limit ? ` of ${count(l.in_flight_limit)}` : ""} messages`],
      ["Paused", l.paused_share == null ? (l.paused ? "yes" : "no") : `${share(l.paused_share)} of the time${l.paused ? ", now too" : ""}`],
      ["Cores", l.cores == null ? null : `${l.cores.toFixed(2)}`],
      ["Memory", l.memory_bytes == null ? null : `${bytes(l.memory_bytes)}${l.memory_limit_bytes ? ` of ${bytes(l.memory_limit_bytes)}` : ""}`],
      ["Results kept", view.cache.bytes == null ? null : bytes(view.cache.bytes)],
      ["Read", view.rate.consumed == null ? null : `${count(view.rate.consumed)} messages/s`],
      ["Partitions", count(view.worker.partitions)],
    ]);
  }

  function counts(view) {
    const s = view.since_start, w = view.worker;
    const told = [
      ["Read", s.consumed], ["Acknowledged", s.delivered], ["Without a value", s.tombstones], ["Cut to the model’s length", s.truncated],
      ["Read in windows", s.windowed], ["Abstained", s.abstained], ["Rebalances", s.rebalances], ["Given up to others", s.given_up],
      ["Commits", s.commits], ["Transactions aborted", s.transactions_aborted], ["Lost to retention", s.offset_resets], ["Offsets went backwards", s.rewinds],
    ];
    const always = new Set(["Read", "Acknowledged", "Commits", "Rebalances"]);
    facts("counts", [
      ["Running", w.uptime == null ? null : `${duration(w.uptime)}, since ${new Date(w.started * 1000).toLocaleString("sv-SE")}`],
      ...told.filter(([name, v]) => v || always.has(name)).map(([name, v]) => [name, count(v)]),
    ]);
  }

  /* One set of texts of the evaluation, with its labels. */
  function measured(set) {
    const four = (v) => v == null ? "" : v.toFixed(4), q = set.quantized, group = make("tbody");
    const whole = [["accuracy", q.accuracy], ...Object.entries(q.metrics)].filter(([, v]) => v != null).map(([name, v]) => `, ${name.replaceAll("_", " ")} ${four(v)}`).join("");
    const head = make("th", "set", set.channel);
    head.scope = "rowgroup";
    head.colSpan = 5;
    head.append(make("span", "", `: ${plural(set.texts, "text")}${whole}${set.note ? `; ${set.note}` : ""}`));
    group.insertRow().append(head);
    for (const label of Object.keys(q.f1).slice(0, 100)) {
      const name = make("th", "", label);
      name.scope = "row";
      group.insertRow().append(name, ...[count(set.per_label[label] ?? 0), four(q.precision[label]), four(q.recall[label]), four(q.f1[label])].map((v) => make("td", "n", v)));
    }
    return group;
  }

  async function model(view) {
    if (!view.worker.digest || described === view.worker.digest) return;
    const answer = await fetch("model", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    const card = answer.ok ? await answer.json() : null;
    if (card) described = view.worker.digest;
    $("model").hidden = !card;
    for (const group of [...$("evaluation").tBodies]) group.remove();
    if (!card) return;
    put("model-name", card.name);
    put("model-digest", card.digest);
    const names = (list, most) => list.slice(0, most).join(", ") + (list.length > most ? ` and ${list.length - most} more` : "");
    facts("model-facts", [
      ["Task", `${card.task}, ${card.activation}`],
      ["Labels", names(card.labels, 12)],
      ["Thresholds", names(Object.entries(card.thresholds).map(([name, least]) => `${name} ${least}`), 12)],
      ["Longest text", `${card.max_length} tokens`],
      ["Early exit", card.early_exit && `after layer ${card.early_exit.layer} of ${card.early_exit.layers}`],
      ["Weights", card.quantization.weights],
      ["Same label as FP32", card.quantization.against_fp32 && `${(card.quantization.against_fp32.same_label * 100).toFixed(2)} % of ${plural(card.quantization.against_fp32.texts, "text")}`],
      ["Licence", card.licence],
    ]);
    const sources = [...(card.base_model ? [card.base_model] : []), ...card.data];
    $("model-sources").replaceChildren(...(sources.length ? sources : [{ name: "None named.", licence: "" }]).map((one) => {
      const item = make("li", "", one.name);
      if (one.licence) item.append(make("br"), make("span", "", [one.licence, one.credit].filter(Boolean).join("; ")));
      return item;
    }));
    $("evaluation").append(...card.evaluation.slice(0, 40).map(measured));
    $("model-figures").hidden = !card.evaluation.length;
    $("readme-box").hidden = !card.readme;
    put("readme", card.readme);
  }

  function figures(view) {
    $("figures").hidden = false;
    for (const part of [tiles, labels, latency, partitions, reasons, batches, drift, load, counts]) part(view);
    put("window", `Figures are ${over(view)}, unless they say otherwise.`);
  }

  // Asking

  function gone(why) {
    if (!document.body.classList.contains("gone")) document.body.classList.add("gone", "stale");
    $("verdict").dataset.state = "gone";
    const since = heard ? ` since ${moment(heard / 1000)}` : "";
    put("title", `No answer${since}.`);
    const ago = heard ? `It was heard last ${duration(Math.round((Date.now() - heard) / 1000))} ago; the figures below are of then. ` : "";
    put("says", `${why} ${ago}This page asks on, and recovers by itself.`);
    $("todo").hidden = false;
    reference($("todo"), "What to do: ", { runbook: "docs/operations.md#no-worker-answers", alert: "WinnowAbsent" });
    $("others").hidden = true;
    document.title = "✕ No answer – Winnow";
    put("pulse-text", heard ? `no answer for ${duration(Math.round((Date.now() - heard) / 1000))}` : "no answer");
  }

  async function look() {
    let view;
    try {
      const answer = await fetch("status", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) return gone(`It answers with status ${answer.status}.`);
      view = await answer.json();
    } catch (error) {
      return gone(error.name === "TimeoutError" ? `The worker has not answered within ${PATIENCE / 1000} s.` : "The worker cannot be reached.");
    }
    if (view.version !== VERSION) return gone("The worker is of another version than this page: load the page again.");
    heard = Date.now();
    last = view;
    document.body.classList.remove("gone", "stale", "beat");
    void document.body.offsetWidth;
    document.body.classList.add("beat");
    put("pulse-text", `live, ${moment(view.at)}`);
    verdict(view); who(view); figures(view);
    await model(view).catch(() => { described = null; });
  }

  async function forever() {
    for (let first = true; ; first = false) {
      if (showing || first) await look();
      await new Promise((done) => setTimeout(done, last && last.course.length < 2 ? 1100 : EVERY));
    }
  }
  document.addEventListener("visibilitychange", () => {
    showing = document.visibilityState === "visible";
    if (showing) look();
  });
  forever();
})();
