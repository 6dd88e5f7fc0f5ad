"use strict";
// The browser of replies. Text of prompts and models reaches the page through `textContent` only.
(() => {
  const source = document.getElementById("replies-data");
  if (!source) return;
  const { models, baseline, rows } = JSON.parse(source.textContent);
  const at = (id) => document.getElementById(id);
  const haystacks = new Map(); // row -> lower-case text, made when first searched
  let shown = rows; // rows that pass the filters
  let position = 0; // within `shown`

  const outcome = (row, model) => row.replies[model]?.outcome;
  const solved = (row, model) => outcome(row, model) === "solved";
  const failed = (row, model) => ["wrong", "unparsed"].includes(outcome(row, model));
  const score = (row, model) => row.replies[model]?.score ?? NaN; // comparisons with NaN are false
  const others = models.map((_, model) => model).filter((model) => model !== baseline);

  // What can be asked of a prompt, as [label, test]; only what the judgements can answer.
  function choices() {
    const some = (test) => rows.some((row) => row.replies.some((reply) => reply && test(reply)));
    const list = [["all prompts", () => true]];
    if (some((reply) => reply.outcome === "solved" || reply.outcome === "wrong")) list.push(...markChoices());
    if (baseline !== null && some((reply) => reply.score !== undefined)) list.push(...rewardChoices());
    for (const what of ["unparsed", "unscored"]) {
      list.push([`${what}, some model`, (row) => row.replies.some((reply) => reply?.outcome === what)]);
    }
    list.push(["truncated, some model", (row) => row.replies.some((reply) => reply?.truncated)]);
    return list;
  }

  function markChoices() {
    const changes = baseline === null ? [] : others.flatMap((model) => [
      [`fixed by ${models[model].name}`, (row) => failed(row, baseline) && solved(row, model)],
      [`broken by ${models[model].name}`, (row) => solved(row, baseline) && failed(row, model)],
    ]);
    return [
      ...changes,
      ["solved by every model", (row) => row.replies.every((_, model) => solved(row, model))],
      ["solved by no model", (row) => row.replies.every((_, model) => failed(row, model))],
    ];
  }

  function rewardChoices() {
    const than = models[baseline].name;
    return others.flatMap((model) => [
      [`higher reward than ${than}: ${models[model].name}`, (row) => score(row, model) > score(row, baseline)],
      [`lower reward than ${than}: ${models[model].name}`, (row) => score(row, model) < score(row, baseline)],
    ]);
  }

  function haystack(row) {
    if (!haystacks.has(row)) {
      const said = [...row.prompt, ...row.references, ...row.replies].map((part) => part?.text ?? "");
      haystacks.set(row, [row.id, row.topic, ...said].join("\n").toLowerCase());
    }
    return haystacks.get(row);
  }

  function element(name, kind, text) {
    const made = document.createElement(name);
    if (kind) made.className = kind;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function said(part) {
    const parts = [element("p", "said", part.text || "(empty)")];
    if (part.more) parts.push(element("p", "more", `… ${part.more.toLocaleString("en")} more characters`));
    return parts;
  }

  function block(title, part) {
    const made = element("div", "block");
    made.append(element("h4", "", title), ...said(part));
    return made;
  }

  function references(row) {
    return row.references.map((part) => {
      if (part.title === "Answer") return block("Answer", part);
      const made = element("details");
      made.append(element("summary", "", part.title), block("", part));
      return made;
    });
  }

  const SIGNS = { solved: "✓ solved", wrong: "✗ wrong", unparsed: "? unparsed", unscored: "– unscored" };

  function card(reply, model) {
    const made = element("section", `reply ${model.colour}`);
    made.append(element("h4", "", model.name));
    const marks = element("p", "marks");
    if (!reply) {
      marks.textContent = "no reply in the run folder";
      made.append(marks);
      return made;
    }
    if (reply.outcome) marks.append(element("b", reply.outcome, SIGNS[reply.outcome]));
    if (reply.truncated) marks.append(element("b", "truncated", "… truncated"));
    if (reply.score !== undefined) marks.append(element("b", "", `reward ${reply.score}`));
    marks.append(`${reply.tokens === null ? "unknown" : reply.tokens.toLocaleString("en")} tokens${reply.reason ? `; ${reply.reason}` : ""}`);
    made.append(marks, ...said(reply));
    return made;
  }

  function show() {
    const row = shown[position];
    const of = shown.length < rows.length ? ` (of ${rows.length.toLocaleString("en")} in all)` : "";
    at("position").textContent = row
      ? `Prompt ${(position + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}${of}`
      : `No prompt matches${of}`;
    for (const id of ["previous", "next", "random"]) at(id).disabled = shown.length < 2;
    if (!row) return at("prompt").replaceChildren();
    const cards = element("div", "cards");
    cards.append(...row.replies.map((reply, model) => card(reply, models[model])));
    at("prompt").replaceChildren(
      element("p", "about", `${row.topic} · ${row.split} · ${row.id}`),
      ...row.prompt.map((message) => block(message.role === "user" ? "Prompt" : message.role, message)),
      ...references(row),
      cards,
    );
  }

  function filter(list) {
    const needle = at("search").value.trim().toLowerCase();
    const topic = at("topic").value;
    const test = list[at("outcome").selectedIndex][1];
    shown = rows.filter((row) => (!topic || row.topic === topic) && test(row) && (!needle || haystack(row).includes(needle)));
    position = 0;
    show();
  }

  function step(by) {
    if (shown.length === 0) return;
    position = (position + by + shown.length) % shown.length;
    show();
  }

  function start() {
    const list = choices();
    for (const [label, test] of list) {
      at("outcome").append(element("option", "", `${label} (${rows.filter(test).length.toLocaleString("en")})`));
    }
    for (const id of ["search", "topic", "outcome"]) at(id).addEventListener("input", () => filter(list));
    at("controls").addEventListener("submit", (event) => event.preventDefault());
    at("previous").addEventListener("click", () => step(-1));
    at("next").addEventListener("click", () => step(1));
    at("random").addEventListener("click", () => step(1 + Math.floor(Math.random() * (shown.length - 1))));
    at("browser").addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey || /INPUT|SELECT/.test(event.target.tagName)) return;
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by) {
        event.preventDefault();
        step(by);
      }
    });
    at("baseline").textContent = baseline === null ? "nothing" : models[baseline].name;
    at("browser").hidden = false;
    show();
  }

  start();
})();
