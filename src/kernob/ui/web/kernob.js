// What the pieces share: figures with units, times, colours, and one cross-hair for all charts.

// -- figures: the same texts as kernob.rates (tests/ui/test_figure.py keeps them equal) -----------

export function scaled(value) {
  if (value > 0 && value <= 0.5) return ["<1", ""];
  if (value < 999.5) return [value.toFixed(0), ""];
  for (const prefix of "kMGTPE") {
    value /= 1000;
    if (value < 9.995) return [value.toFixed(2), prefix];
    if (value < 99.95) return [value.toFixed(1), prefix];
    if (value < 999.5) return [value.toFixed(0), prefix];
  }
  return [value.toFixed(0), "E"];
}

function count(value) {
  if (value > 0 && value < 0.05) return "<0.1";
  if (value < 9.95 && !Number.isInteger(value)) return value.toFixed(1);
  return scaled(value).join("");
}

function share(value) {
  const percent = value * 100;
  if (percent > 0 && percent < 0.05) return "<0.1 %";
  return `${percent < 9.95 ? percent.toFixed(1) : percent.toFixed(0)} %`;
}

function seconds(value) {
  if (value === 0) return "0 s";
  if (value < 1) {
    const ms = value * 1000;
    if (ms < 0.1) return ms < 0.0005 ? "<1 µs" : `${(ms * 1000).toFixed(ms < 0.009995 ? 1 : 0)} µs`;
    return `${ms.toFixed(ms < 9.995 ? 2 : ms < 99.95 ? 1 : 0)} ms`;
  }
  if (value < 120) return `${value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return value < 172800 ? `${Math.round(value / 3600)} h` : `${Math.round(value / 86400)} d`;
}

const TEXTS = {
  bytes: (v) => `${scaled(v).join(" ")}B`,
  rate: (v) => `${scaled(v).join(" ")}B/s`,
  count,
  per_second: (v) => `${v > 0 && v < 1 ? Number(v.toPrecision(2)) : count(v)}/s`,
  share,
  seconds,
  time: (v) => clock(v),
  ago: (v) => ago(v),
};

// Kinds whose unit is one for a whole column.
const UNITS = { bytes: "B", rate: "B/s", count: "", per_second: "/s" };

// One figure with its unit; "no data" is a dash, so that it never looks like 0.
export function text(value, kind) {
  if (value === null || value === undefined) return "–";
  return TEXTS[kind] ? TEXTS[kind](value) : String(value);
}

export const isNumber = (kind) => kind in UNITS || kind === "share" || kind === "seconds";

// A column's figures in one unit with their points below each other: [unit, texts].
export function column(values, kind, before = "") {
  if (!(kind in UNITS)) return ["", values.map((v) => text(v, kind))];
  const largest = Math.max(0, ...values.filter((v) => v !== null && v !== undefined));
  let prefix = scaled(largest)[1];
  // A unit that was shown stays while it fits, so that live figures don't jump.
  const old = "kMGTPE".indexOf(before);
  if (before && old >= 0 && largest >= 500 * 1000 ** old && largest < 999.5 * 1000 ** (old + 1)) prefix = before;
  const factor = 1000 ** ("kMGTPE".indexOf(prefix) + 1) || 1;
  const unit = prefix + UNITS[kind];
  const plain = values.map((v) => {
    if (v === null || v === undefined) return "–";
    if (v === 0) return "0";
    const n = v / factor;
    if (prefix === "") return kind === "count" || kind === "per_second" ? count(v) : n <= 0.5 ? "<1" : n.toFixed(0);
    if (n < 0.0005) return "<0.001";
    return n.toFixed(n < 0.9995 ? 3 : n < 9.995 ? 2 : n < 99.95 ? 1 : 0);
  });
  const decimals = plain.map((t) => (t.includes(".") ? t.length - t.indexOf(".") - 1 : -1));
  const most = Math.max(-1, ...decimals);
  // Figure space and punctuation space are as wide as a digit and a point.
  const padding = (d) => (most < 0 ? "" : d < 0 ? "\u2008" + "\u2007".repeat(most) : "\u2007".repeat(most - d));
  return [unit, plain.map((t, i) => t + padding(decimals[i]))];
}

// -- times: in the browser's zone, which the bar says once -----------------------------------------

let skew = 0;
// Tells what time it is where the data come from; relative times count from there.
export const setNow = (ms) => { skew = ms - Date.now(); };
export const now = () => Date.now() + skew;

export const zone = () => {
  const minutes = -new Date(now()).getTimezoneOffset();
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (!minutes) return "UTC";
  const pad = (n) => String(n).padStart(2, "0");
  const offset = `UTC${minutes < 0 ? "−" : "+"}${Math.trunc(Math.abs(minutes) / 60)}`;
  const rest = Math.abs(minutes) % 60;
  return `${name || ""} ${offset}${rest ? ":" + pad(rest) : ""}`.trim();
};

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const pad = (n) => String(n).padStart(2, "0");
export const day = (ms) => { const d = new Date(ms); return `${d.getDate()} ${MONTHS[d.getMonth()]}`; };
export const clock = (ms, precise = true) => {
  const d = new Date(ms);
  return `${pad(d.getHours())}:${pad(d.getMinutes())}${precise ? ":" + pad(d.getSeconds()) : ""}`;
};
export const absolute = (ms) => `${day(ms)} ${new Date(ms).getFullYear()}, ${clock(ms)} ${zone()}`;

export function ago(ms) {
  const s = Math.max(0, (now() - ms) / 1000);
  if (s < 5) return "now";
  if (s < 90) return `${Math.round(s / 5) * 5} s ago`;
  if (s < 5400) return `${Math.round(s / 60)} min ago`;
  if (s < 36 * 3600) return `${Math.round(s / 3600)} h ago`;
  return `${Math.round(s / 86400)} d ago`;
}

// Calls back every five seconds for as long as the component lives: relative times stay true.
export const ticking = {
  data: () => ({ tick: 0 }),
  mounted() { this.ticker = setInterval(() => { if (!document.hidden) this.tick++; }, 5000); },
  beforeUnmount() { clearInterval(this.ticker); },
};

// -- colours ---------------------------------------------------------------------------------------

export const css = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// Slots are given out by Python (colours.py); -1 is the grey of "others", -2 says bad.
const variable = (slot) => ({ "-1": "--series-others", "-2": "--bad" })[slot] ?? `--series-${slot}`;
export const colour = (slot) => `var(${variable(slot)})`;
export const paint = (slot) => css(variable(slot));

// -- one cross-hair --------------------------------------------------------------------------------

const hair = new EventTarget();
export const point = (time, chart) =>
  hair.dispatchEvent(new CustomEvent("point", { detail: { time, chart } }));
export function onPoint(listen) {
  const heard = (event) => listen(event.detail);
  hair.addEventListener("point", heard);
  return () => hair.removeEventListener("point", heard);
}

// -- hands -----------------------------------------------------------------------------------------

export async function copy(content) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(content);
  // Plain HTTP off loopback has no clipboard: the old way still works.
  const area = Object.assign(document.createElement("textarea"), { value: content });
  area.style.position = "fixed";
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
