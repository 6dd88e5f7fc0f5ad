// The browser of replies: filters, order, keyboard. The index is read at once, texts chunk by chunk when needed.

function startBrowser(index) {
  const at = (id) => document.getElementById(id);
  const { models, baseline, judges } = index;
  const ask = questions(index);
  const all = index.ids.map((_, row) => row);
  const chunks = new Map(); // number of a chunk -> its texts
  const haystacks = new Map(); // row -> lower-case text, made when first searched
  let shown = all; // rows that pass the filters, in the order chosen
  let position = 0; // within `shown`
  let outcomes = [];

  const arm = () => Number(at("arm").value);
  const judge = () => judges[at("judge").selectedIndex];

  function textsOf(row) {
    const number = Math.floor(row / index.chunk);
    if (!chunks.has(number)) chunks.set(number, JSON.parse(at(`texts-${number}`).textContent));
    return chunks.get(number)[row % index.chunk];
  }

  function haystack(row) {
    if (!haystacks.has(row)) {
      const texts = textsOf(row);
      const parts = [...texts.prompt, ...texts.references, ...texts.replies.flat()].map((part) => part.text);
      haystacks.set(row, [index.ids[row], index.topics[index.topic[row]], ...parts].join("\n").toLowerCase());
    }
    return haystacks.get(row);
  }

  function changed(row, model) {
    const by = model === baseline ? NaN : ask.difference(row, model, judge());
    return by > 0 ? "won" : by < 0 ? "lost" : by === 0 ? "tied" : "";
  }

  function show() {
    const row = shown[position];
    const of = shown.length < all.length ? ` (of ${all.length.toLocaleString("en")} in all)` : "";
    at("position").textContent = row === undefined
      ? `No prompt matches${of}`
      : `Prompt ${(position + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}${of}`;
    for (const id of ["previous", "next", "random"]) at(id).disabled = shown.length < 2;
    if (row === undefined) return at("prompt").replaceChildren();
    const texts = textsOf(row);
    const cards = element("div", "cards");
    cards.append(...texts.replies.map((samples, model) => card(samples, models[model], changed(row, model))));
    at("prompt").replaceChildren(
      element("p", "about", `${index.topics[index.topic[row]]} · ${index.split[row]} · ${index.ids[row]}`),
      ...texts.prompt.map((message) => block(message.role === "user" ? "Prompt" : message.role, message)),
      ...references(texts),
      cards,
    );
  }

  function choose() {
    const needle = at("search").value.trim().toLowerCase();
    const topic = at("topic").selectedIndex - 1;
    const test = outcomes[Math.max(at("outcome").selectedIndex, 0)][1];
    const kept = all.filter((row) =>
      (topic < 0 || index.topic[row] === topic) && test(row) && (!needle || haystack(row).includes(needle)));
    shown = ask.ordered(kept, at("order").value, arm(), judge());
    position = 0;
    show();
  }

  /** The outcomes on offer depend on arm and judge; what was chosen stays chosen. */
  function offer() {
    const name = outcomes[at("outcome").selectedIndex]?.[0];
    outcomes = ask.outcomes(arm(), judge());
    at("outcome").replaceChildren(...outcomes.map(([label, test]) =>
      element("option", "", `${label} (${all.filter(test).length.toLocaleString("en")})`)));
    at("outcome").selectedIndex = Math.max(outcomes.findIndex(([label]) => label === name), 0);
    choose();
  }

  function step(by) {
    if (shown.length === 0) return;
    position = (position + by + shown.length) % shown.length;
    show();
  }

  const random = () => shown.length > 1 && step(1 + Math.floor(Math.random() * (shown.length - 1)));
  const keys = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1), r: random,
    Home: () => step(-position), End: () => step(shown.length - 1 - position),
  };

  function pressed(event) {
    const writing = /INPUT|SELECT|TEXTAREA/.test(event.target.tagName);
    if (event.altKey || event.ctrlKey || event.metaKey || writing) return;
    if (event.key === "/") {
      event.preventDefault();
      at("search").focus();
    } else if (keys[event.key] && at("browser").contains(event.target)) {
      event.preventDefault();
      keys[event.key]();
    }
  }

  const option = (label, value) => Object.assign(element("option", "", label), { value });
  at("arm").append(option("any", -1), ...models.flatMap(({ name }, model) => (model === baseline ? [] : option(name, model))));
  at("judge").append(...judges.map((name) => option(name, name)));
  at("judge").parentElement.hidden = judges.length < 2;
  for (const topic of index.topics) at("topic").append(option(topic, topic));
  for (const id of ["arm", "judge"]) at(id).addEventListener("input", offer);
  let waiting = 0;
  at("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(choose, 120);
  });
  for (const id of ["topic", "outcome", "order"]) at(id).addEventListener("input", choose);
  at("controls").addEventListener("submit", (event) => event.preventDefault());
  at("previous").addEventListener("click", () => step(-1));
  at("next").addEventListener("click", () => step(1));
  at("random").addEventListener("click", random);
  document.addEventListener("keydown", pressed);
  at("baseline").textContent = baseline === null ? "nothing" : models[baseline].name;
  offer();
  at("browser").hidden = false;
}

document.addEventListener("DOMContentLoaded", () => {
  const source = document.getElementById("replies-index");
  if (source) startBrowser(JSON.parse(source.textContent));
  performance.mark("interactive");
});
