"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const frames = data.frames || [];
  const $ = id => document.getElementById(id);
  const pics = [...document.querySelectorAll(".pic")];
  let variant = 0, at = -1, lit = null;

  // stateAt replays the changes up to a frame. Every 200th state is kept.
  const kept = [new Array(data.replicas + 1).fill(null)];
  const apply = (state, f) => {
    for (const v of f.s || []) {
      const was = state[v.i];
      state[v.i] = Object.assign({}, v, { lg: v.lg || (v.n && was ? was.lg : []) });
    }
  };
  const stateAt = n => {
    let k = Math.min(Math.floor((n + 1) / 200), kept.length - 1);
    let state = kept[k].slice();
    for (let i = k * 200; i <= n; i++) {
      apply(state, frames[i]);
      if ((i + 1) % 200 === 0 && kept.length === (i + 1) / 200) kept.push(state.slice());
    }
    return state;
  };
  const visible = n => variant === 1 || !frames[n].b;
  const esc = s => String(s).replace(/[&<>"]/g, c => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
  const color = t => t === 0 ? "t0" : "t" + ((t - 1) % 7 + 1);

  const entries = v => {
    const log = v.lg, most = 33, gone = (v.f || 1) - 1, from = Math.max(gone, log.length - most);
    let out = gone ? `<em class="gone" title="compacted: what they did is in the state">1–${gone} compacted</em>` : "";
    if (v.im) out += `<em class="image" title="the newest snapshot on its disk">snapshot ${v.im}</em>`;
    if (from > gone) out += `<em>… ${from - gone} before</em>`;
    for (let i = from; i < log.length; i++) {
      const index = i + 1, cls = [color(log[i][0])];
      if (index <= v.c && v.u) cls.push("committed");
      if (index <= v.a && v.u) cls.push("applied");
      if (index > v.d && v.u) cls.push("volatile");
      const name = data.commands[log[i][1]] || "";
      const small = name && name.length <= 4 ? name : index;
      out += `<span class="${cls.join(" ")}" title="entry ${index} of term ${log[i][0]} ${esc(name)}">${log[i][0]}<small>${esc(small)}</small></span>`;
    }
    return out || "<em>empty log</em>";
  };
  const showLogs = state => {
    let out = "";
    for (let i = 1; i <= data.replicas; i++) {
      const v = state[i];
      if (!v) continue;
      const role = v.u ? v.ro : "down", lead = v.u && v.ro === "leader";
      out += `<div class="rep${v.u ? "" : " down"}${lead ? " lead" : ""}"><h3><b>${i}</b><span class="role">${role}${v.p && v.u ? ", " + v.p : ""}, term ${v.t}${v.sn ? ", " + esc(v.sn) : ""}</span>` +
        (v.u ? `<i title="commit index, applied index, on disk">commit ${v.c} · applied ${v.a}</i>` : "") + `</h3><div class="log">${entries(v)}</div></div>`;
    }
    $("logs").innerHTML = out;
  };

  const show = (n, scroll) => {
    at = n;
    const f = frames[n];
    if (!f) return;
    $("time").textContent = f.t;
    const cls = f.k === "caption" || f.k === "step" ? f.k : "";
    $("event").innerHTML = `<span class="${cls}">${f.r && f.l < 0 ? esc(f.r) + " " : ""}${esc(f.x || "")}</span>`;
    const shown = frames.filter((_, i) => visible(i)).length;
    let place = 0;
    for (let i = 0; i <= n; i++) if (visible(i)) place++;
    $("count").textContent = place + " / " + shown;
    showLogs(stateAt(n));
    const pic = pics[variant], svg = pic.querySelector("svg");
    svg.querySelector(".cursor").setAttribute("transform", `translate(0 ${f.y[variant]})`);
    if (lit) lit.classList.remove("on");
    lit = f.l >= 0 ? document.getElementById((variant ? "full" : "plain") + "-m" + f.l) : null;
    if (lit) lit.classList.add("on");
    if (scroll) {
      const box = svg.getBoundingClientRect(), scale = box.height / svg.viewBox.baseVal.height;
      const y = box.top + f.y[variant] * scale;
      if (y < 90 || y > innerHeight - 90) window.scrollBy({ top: y - innerHeight / 2 });
    }
  };
  const step = by => {
    let n = at + by;
    while (n >= 0 && n < frames.length && !visible(n)) n += by;
    if (n >= 0 && n < frames.length) { show(n, true); return true; }
    return false;
  };
  const edge = last => {
    let n = last ? frames.length - 1 : 0;
    while (n >= 0 && n < frames.length && !visible(n)) n += last ? -1 : 1;
    if (frames[n]) show(n, true);
  };
  const setVariant = v => {
    if (!pics[v]) return;
    variant = v;
    pics.forEach((p, i) => { p.hidden = i !== v; });
    show(at, true);
  };

  // The heads of the columns stay in sight.
  const follow = () => {
    const svg = pics[variant].querySelector("svg"), box = svg.getBoundingClientRect();
    const down = Math.max(0, Math.min(-box.top, box.height - 60)) * svg.viewBox.baseVal.height / Math.max(box.height, 1);
    svg.querySelector(".heads").style.transform = `translateY(${down}px)`;
  };
  addEventListener("scroll", follow, { passive: true });

  $("first").onclick = () => edge(false);
  $("last").onclick = () => edge(true);
  $("next").onclick = () => step(1);
  $("prev").onclick = () => step(-1);
  if ($("beats")) $("beats").onchange = e => setVariant(e.target.checked ? 1 : 0);
  addEventListener("keydown", e => {
    if (e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName) && e.target.type !== "checkbox") return;
    const act = { ArrowRight: () => step(1), ArrowLeft: () => step(-1), Home: () => edge(false), End: () => edge(true) }[e.key];
    if (act) { act(); e.preventDefault(); }
  });
  document.querySelectorAll(".pic").forEach((p, v) => p.addEventListener("click", e => {
    const svg = p.querySelector("svg"), box = svg.getBoundingClientRect();
    const y = (e.clientY - box.top) * svg.viewBox.baseVal.height / box.height;
    let best = at;
    frames.forEach((f, i) => { if (visible(i) && Math.abs(f.y[v] - y) < Math.abs(frames[best].y[v] - y)) best = i; });
    show(best, false);
  }));

  // #end shows the last event; #selftest steps through all by the keys, and
  // leaves what it found in the attribute data-selftest of the document.
  const overlaps = pic => {
    const all = [...pic.querySelectorAll(".letter text, .tag rect, .snap text, .caption, .side")].map(e => ({ e, b: e.getBoundingClientRect() }));
    all.sort((a, b) => a.b.top - b.b.top);
    let n = 0;
    for (let i = 0; i < all.length; i++) {
      const a = all[i].b;
      for (let k = i + 1; k < all.length && all[k].b.top < a.bottom - 3; k++) {
        const b = all[k].b;
        if (b.left < a.right - 2 && a.left < b.right - 2) n++;
      }
    }
    return n;
  };
  const selftest = () => {
    const press = key => dispatchEvent(new KeyboardEvent("keydown", { key }));
    const found = [];
    for (const v of pics.map((_, i) => i)) {
      setVariant(v);
      press("Home");
      let steps = 1, y = frames[at].y[v], back = 0;
      for (let was = -1; was !== at;) {
        was = at;
        press("ArrowRight");
        if (at !== was) steps++;
        if (frames[at].y[v] < y - 0.5) back++;
        y = frames[at].y[v];
      }
      const end = at;
      press("ArrowLeft");
      const left = at;
      press("End");
      const want = frames.filter((_, i) => visible(i)).length;
      const ok = steps === want && back === 0 && at === end && (want < 2 || left < end) && (!document.querySelector(".rep") === !frames.some(f => f.s));
      found.push(`${ok ? "ok" : "FAIL"} ${steps}/${want} back ${back} overlaps ${overlaps(pics[v])} replicas ${document.querySelectorAll(".rep").length} entries ${document.querySelectorAll(".log span").length}`);
    }
    document.documentElement.setAttribute("data-selftest", found.join("; "));
  };

  const begin = frames.findIndex(f => f.k === "caption" || f.k === "step");
  if (frames.length && (location.hash === "#end" || begin < 0)) edge(location.hash === "#end");
  else if (frames.length) show(begin, false);
  if (location.hash === "#selftest") selftest();
  if (location.hash === "#beats" && $("beats")) $("beats").click();
})();
