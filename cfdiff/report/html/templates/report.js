"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  const [height, width] = data.size;
  root.style.setProperty("--aspect", `${width} / ${height}`);
  for (const bar of document.querySelectorAll(".scale .bar")) bar.src = png(data.scale);

  function png(encoded) { return "data:image/png;base64," + encoded; }
  function clone(id) { return $(id).content.firstElementChild.cloneNode(true); }
  function element(tag, text, className = "") {
    const made = document.createElement(tag);
    made.textContent = text;
    made.className = className;
    return made;
  }

  // Names from the data reach the page through textContent and setAttribute only.
  function frame(card, base, head, { overlay = false, outline = false } = {}) {
    const made = clone("frame");
    const [image, over] = made.querySelectorAll("img");
    image.alt = head;
    made.classList.toggle("alone", base === undefined);
    if (base === undefined) image.remove(); else image.src = png(data.pictures[base]);
    if (overlay && card.d !== undefined) over.src = png(data.pictures[card.d]); else over.remove();
    const svg = made.querySelector("svg");
    if (outline && card.m) {
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      for (const path of svg.children) path.setAttribute("d", card.m);
    } else svg.remove();
    made.querySelector(".head").textContent = head;
    return made;
  }

  function probabilities(card, digits) {
    return Object.entries(card.p).map(([who, [was, is]]) => {
      const made = clone("prob");
      made.style.setProperty("--was", was);
      made.style.setProperty("--is", is);
      made.querySelector(".who").textContent = who;
      made.querySelector(".number").textContent = `${was.toFixed(digits)} → ${is.toFixed(digits)}`;
      return made;
    });
  }

  function facts(card) {
    const words = card.group === undefined ? [] : [card.group];
    words.push(`change ${card.change.toFixed(4)}`);
    if (card.gain !== undefined) words.push(`gain ${card.gain < 0 ? "−" : "+"}${Math.abs(card.gain).toFixed(2)}`);
    if (card.retries) words.push(card.retries === 1 ? "1 retry" : `${card.retries} retries`);
    if (card.inside !== undefined) {
      words.push(`${(100 * card.inside).toFixed(0)}\u00a0% in the mask (${(100 * card.area).toFixed(1)}\u00a0% of the image)`);
    }
    const made = element("p", words.join(" · "), "meta");
    if (card.ok === false) made.prepend(element("span", "not flipped", "badge"));
    return made;
  }

  // One slider in the page and one in the dialog, in step.
  const sliders = document.querySelectorAll(".opacity");
  function setOpacity(value) {
    root.style.setProperty("--overlay", value / 100);
    for (const one of sliders) one.value = value;
    for (const one of document.querySelectorAll(".percent")) one.textContent = `${value} %`;
  }
  for (const one of sliders) one.addEventListener("input", () => setOpacity(one.value));
  setOpacity(sliders[0].value);

  // The enlarged view: Esc closes (the dialog's own), arrows go through the list that was clicked in.
  const zoom = $("zoom");
  let list = [], at = 0, opener = null;
  function fill() {
    const card = list[at];
    $("zoom-id").textContent = card.id;
    $("zoom-note").textContent = `${at + 1} of ${list.length}`;
    const pictures = [frame(card, card.s, "source", { outline: true })];
    if (card.c !== undefined) {
      pictures.push(
        frame(card, card.c, "counterfactual"),
        frame(card, card.s, "difference on the source", { overlay: true, outline: true }),
        frame(card, undefined, "difference", { overlay: true, outline: true }),
      );
      if (card.h !== undefined) {
        pictures.push(frame(card, card.h, "where the colour went", { outline: true }), frame(card, card.a, "|difference|", { outline: true }));
      }
    }
    $("zoom-pictures").replaceChildren(...pictures);
    const unchanged = card.c === undefined ? [element("p", "not edited: byte for byte as before", "meta")] : [];
    $("zoom-facts").replaceChildren(...probabilities(card, 3), facts(card), ...unchanged);
    $("zoom-facts").classList.toggle("failed", card.ok === false);
    $("previous").disabled = at === 0;
    $("next").disabled = at === list.length - 1;
  }
  function step(by) {
    if (!list[at + by]) return;
    at += by;
    fill();
  }
  function open(cards, card, button) {
    [list, at, opener] = [cards, cards.indexOf(card), button];
    fill();
    zoom.showModal();
    $("close").focus();
  }
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("close").addEventListener("click", () => zoom.close());
  zoom.addEventListener("click", (event) => { if (event.target === zoom) zoom.close(); });
  zoom.addEventListener("close", () => opener.focus());
  zoom.addEventListener("keydown", (event) => {
    if (event.target.matches("input")) return; // there the arrows move the slider
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });

  function cardElement(card, cards) {
    const made = clone("card");
    made.dataset.n = card.n;
    made.classList.toggle("coloured", card.h !== undefined);
    made.classList.toggle("failed", card.ok === false);
    const button = made.querySelector("button");
    button.setAttribute("aria-label", `Enlarge ${card.id}`);
    button.append(
      frame(card, card.s, "source", { outline: true }),
      frame(card, card.c, "counterfactual"),
      frame(card, card.s, "difference", { overlay: true, outline: true }),
    );
    if (card.h !== undefined) button.append(frame(card, card.h, "colour", { outline: true }));
    button.addEventListener("click", () => open(cards, card, button));
    const name = made.querySelector("h3");
    name.textContent = name.title = card.id;
    made.querySelector(".probs").append(...probabilities(card, 2));
    made.querySelector(".meta").replaceWith(facts(card));
    return made;
  }

  function bagElement(bag) {
    const made = element("article", "", "sack");
    const header = document.createElement("header");
    header.append(
      element("h3", bag.name),
      element("p", bag.words),
    );
    const mosaic = element("div", "", "mosaic");
    const cards = bag.members.map((n) => data.cards[n]);
    for (const card of cards) {
      const button = element("button", "", `instance ${card.kind}`);
      button.type = "button";
      button.setAttribute("aria-label", `Enlarge ${card.id}${card.kind ? ", edited" : ""}`);
      button.title = card.id;
      const pic = frame(card, card.s, "", { overlay: true }).querySelector(".pic");
      if (card.c !== undefined) {
        const after = element("img", "", "changed");
        after.alt = "";
        after.src = png(data.pictures[card.c]);
        pic.firstElementChild.after(after);
      }
      button.append(pic);
      button.addEventListener("click", () => open(cards, card, button));
      mosaic.append(button);
    }
    made.append(header, mosaic);
    return made;
  }

  // A list that grows while one scrolls, so that thousands of pictures cost nothing until they are near.
  function pager(place, page, build) {
    const button = $("more");
    let items = [], shown = 0;
    function grow() {
      const next = items.slice(shown, shown + page);
      place.append(...next.map((item) => build(item, items)));
      shown += next.length;
      button.hidden = shown >= items.length;
    }
    button.addEventListener("click", grow);
    new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) grow(); }, { rootMargin: "600px" }).observe(button);
    return (fresh) => {
      [items, shown] = [fresh, 0];
      place.replaceChildren();
      grow();
    };
  }

  const has = (text, query) => text !== undefined && text.toLowerCase().includes(query);
  const query = () => $("query").value.trim().toLowerCase();

  function images() {
    const cards = data.cards;
    const by = (key, sign) => (a, b) => sign * (a[key] - b[key]) || a.n - b.n;
    const orders = {
      file: (a, b) => a.n - b.n,
      "gain-down": by("gain", -1), "gain-up": by("gain", 1),
      "change-down": by("change", -1), "change-up": by("change", 1),
      id: (a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0),
    };
    const extreme = (order) => new Set([...cards].sort(orders[order]).slice(0, data.extremes));
    const best = extreme("gain-down"), worst = extreme("gain-up");
    const filters = {
      all: () => true,
      best: (card) => best.has(card), worst: (card) => worst.has(card),
      failed: (card) => card.ok === false,
      random: (card) => card.random,
    };
    const show = pager($("cards"), 60, cardElement);
    function update() {
      const kept = filters[document.querySelector("[name=filter]:checked").value], words = query();
      const found = cards.filter((card) => kept(card) && (has(card.id, words) || has(card.group, words)));
      $("count").textContent = `${found.length.toLocaleString("en")} of ${cards.length.toLocaleString("en")} images`;
      show(found.sort(orders[$("order").value]));
    }
    for (const radio of document.querySelectorAll("[name=filter]")) {
      radio.addEventListener("change", () => {
        const order = { best: "gain-down", worst: "gain-up" }[radio.value];
        if (order) $("order").value = order;
        update();
      });
    }
    $("query").addEventListener("input", update);
    $("order").addEventListener("change", update);
    update();
    if ($("examples")) {
      const examples = data.examples.map((n) => cards.find((card) => card.n === n));
      $("examples").append(...examples.map((card) => cardElement(card, examples)));
      $("outlines").addEventListener("change", (event) => document.body.classList.toggle("no-outlines", !event.target.checked));
    }
  }

  function bags() {
    const show = pager($("bags"), 12, bagElement);
    function update() {
      const words = query(), mix = $("mix").value;
      const found = data.bags.filter((bag) =>
        (mix === "" || bag.requested === Number(mix)) &&
        (has(bag.name, words) || bag.members.some((n) => has(data.cards[n].id, words))));
      $("count").textContent = `${found.length} of ${data.bags.length} bags`;
      show(found);
    }
    for (const radio of document.querySelectorAll("[name=view]")) {
      radio.addEventListener("change", () => { $("bags").dataset.view = radio.value; });
    }
    $("query").addEventListener("input", update);
    $("mix").addEventListener("change", update);
    update();
  }

  if ($("bags")) bags(); else images();

  // A printed page cannot be unfolded.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const one of folded) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of folded) one.open = false; });
})();
