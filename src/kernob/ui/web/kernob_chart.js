// Stacked areas or lines over time, with a cross-hair and a legend that is a table. See ../chart.py.
import { echarts } from "nicegui-echart";
import * as k from "kernob";

const MARGIN = { left: 64, right: 12, top: 10, bottom: 24 };
const SHORTEST_DRAG = 6;

export default {
  props: { data: String, kind: String, stacked: Boolean, height: Number, only: Array, label: String, legend: String },
  emits: ["zoom", "unzoom", "only", "open"],
  template: `
<figure class="k-chart" :class="['k-legend-' + legend, { 'k-loading': !data }]">
  <div class="k-plot" ref="plot" :style="{ height: height + 'px' }" tabindex="0" role="img"
    :aria-label="summary" @keydown="onKey" @blur="leave">
    <div class="k-canvas" ref="canvas"></div>
    <div class="k-hair" ref="hair" hidden></div>
    <div class="k-drag" ref="drag" hidden></div>
    <div class="k-tip" ref="tip" hidden></div>
    <div class="k-skeleton" v-if="!data" aria-hidden="true"></div>
    <div class="k-nothing" v-else-if="!lines.length">{{ raw.empty }}</div>
  </div>
  <button class="k-narrow" type="button" v-if="legend !== 'none'" @click="opened = !opened"
    :aria-expanded="opened">{{ opened ? "Hide the legend" : "Show the legend" }}</button>
  <table class="k-keys" :class="{ 'k-open': opened }" v-if="legend !== 'none'">
    <caption class="k-hidden">{{ label }}: last, mean, highest and total of each</caption>
    <thead><tr><th></th><th v-for="c in columns" :key="c.name" scope="col">{{ c.name }}
      <small>{{ c.unit }}</small></th></tr></thead>
    <tbody>
      <tr v-for="(line, i) in keys" :key="line.name" :class="{ 'k-off': line.off }"
        @mouseenter="highlight(line.name)" @mouseleave="highlight(null)">
        <th scope="row"><button type="button" @click="isolate(line.name)" :disabled="line.slot < 0"
          :aria-pressed="isolated.includes(line.name)" :title="line.name">
          <i class="k-swatch" :style="{ background: colour(line.slot) }"></i><span>{{ line.name }}</span>
        </button></th>
        <td v-for="c in columns" :key="c.name">{{ c.texts[i] }}</td>
      </tr>
      <tr v-if="!data" v-for="i in 4" :key="i"><th><span class="k-bone"></span></th></tr>
    </tbody>
  </table>
</figure>`,
  data: () => ({ isolated: [], hovered: null, opened: false }),
  computed: {
    raw() { return this.data ? Object.freeze(JSON.parse(this.data)) : null; },
    // What is drawn: all lines, or those isolated and the rest summed.
    lines() {
      if (!this.raw) return [];
      const all = this.raw.lines;
      const chosen = all.filter((line) => this.isolated.includes(line.name));
      if (!chosen.length) return all;
      const rest = all.filter((line) => !chosen.includes(line));
      return rest.length && this.stacked ? [...chosen, summed(rest)] : chosen;
    },
    keys() {
      const all = this.raw ? this.raw.lines : [];
      return all.map((line) => ({
        name: line.name, slot: line.slot,
        off: this.isolated.length > 0 && !this.isolated.includes(line.name),
        ...statistics(line, this.raw),
      }));
    },
    columns() {
      const kinds = this.kind === "rate"
        ? [["last", this.kind], ["mean", this.kind], ["max", this.kind], ["total", "bytes"]]
        : [["last", this.kind], ["mean", this.kind], ["max", this.kind]];
      return kinds.map(([name, kind]) => {
        const [unit, texts] = k.column(this.keys.map((key) => key[name]), kind);
        return { name, unit, texts };
      });
    },
    summary() {
      if (!this.raw) return `${this.label}: loading`;
      const { times, step } = this.raw;
      if (!times.length || !this.keys.length) return `${this.label}: nothing in this range`;
      const span = `${k.clock(times[0])} to ${k.clock(times.at(-1) + step)}`;
      const said = this.keys.slice(0, 5).map((key) =>
        `${key.name}: last ${k.text(key.last, this.kind)}, highest ${k.text(key.max, this.kind)}`);
      return `${this.label}, ${span}. ${said.join(". ")}.`;
    },
  },
  watch: {
    data() { this.draw(); },
    only(value) { this.isolated = value || []; this.draw(); },
  },
  created() { this.isolated = this.only || []; },
  mounted() {
    // ECharts keeps no secrets from Vue: outside of `data` nothing is made reactive.
    this.chart = echarts.init(this.$refs.canvas, null, { renderer: "canvas" });
    this.size = new ResizeObserver(() => { this.chart.resize(); this.leave(); });
    this.size.observe(this.$refs.canvas);
    this.offPoint = k.onPoint(({ time, chart }) => this.showHair(time, chart === this));
    const plot = this.$refs.plot;
    plot.addEventListener("pointermove", this.onMove);
    plot.addEventListener("pointerleave", this.leave);
    plot.addEventListener("pointerdown", this.onDown);
    plot.addEventListener("dblclick", this.onDouble);
    window.addEventListener("kernob:theme", this.draw);
    this.draw();
  },
  beforeUnmount() {
    window.removeEventListener("kernob:theme", this.draw);
    window.removeEventListener("pointerup", this.onUp);
    this.offPoint();
    this.size.disconnect();
    this.chart.dispose();
  },
  methods: {
    colour: k.colour,
    draw() {
      if (!this.chart || !this.raw) return;
      const { times, start, end, marks } = this.raw;
      const grey = k.css("--text-2");
      const series = this.lines.map((line) => {
        const faded = this.hovered && this.hovered !== line.name;
        const paint = k.paint(line.slot);
        return {
          type: "line", name: line.name, color: paint, symbol: "none", animation: false, silent: true,
          emphasis: { disabled: true }, connectNulls: false, stack: this.stacked ? "all" : undefined,
          lineStyle: { width: this.stacked ? 1 : 1.5, opacity: faded ? 0.15 : 1 },
          areaStyle: this.stacked ? { opacity: faded ? 0.1 : 0.72 } : undefined,
          data: times.map((time, i) => item(time, line.values, i)),
        };
      });
      if (marks.length && series.length) {
        series[0].markLine = {
          silent: true, symbol: "none", animation: false, label: { show: false },
          lineStyle: { color: k.css("--text-2"), type: [2, 3], width: 1, opacity: 0.7 },
          data: marks.map((mark) => ({ xAxis: mark.time })),
        };
      }
      const labels = { color: grey, fontSize: 11, fontFamily: k.css("--font") };
      this.chart.setOption({
        animation: false, grid: MARGIN, series,
        xAxis: {
          type: "time", min: start, max: end, axisLine: { lineStyle: { color: k.css("--line") } },
          axisTick: { show: false }, splitLine: { show: false }, splitNumber: 8,
          axisLabel: { ...labels, hideOverlap: true, showMinLabel: false, showMaxLabel: false,
            formatter: (ms) => tick(ms, end - start) },
        },
        yAxis: {
          type: "value", min: 0, max: series.length ? null : 1, splitNumber: 4,
          splitLine: { lineStyle: { color: k.css("--line") } },
          axisLabel: { ...labels, formatter: (v) => (v ? k.text(v, this.kind) : "0") },
        },
      }, { notMerge: true });
      this.hairAgain?.();
    },
    highlight(name) { this.hovered = name; this.draw(); },
    isolate(name) {
      const on = this.isolated.length === 1 && this.isolated[0] === name;
      this.isolated = on ? [] : [name];
      this.draw();
      this.$emit("only", this.isolated);
    },
    // -- pointer ------------------------------------------------------------------------------------
    at(event) {
      const box = this.$refs.canvas.getBoundingClientRect();
      const x = Math.min(Math.max(event.clientX - box.left, MARGIN.left), box.width - MARGIN.right);
      return { x, y: event.clientY - box.top, time: this.chart.convertFromPixel({ xAxisIndex: 0 }, x) };
    },
    onMove(event) {
      if (!this.raw || !this.raw.times.length) return;
      const at = this.at(event);
      if (this.dragged) return this.showDrag(at);
      k.point(at.time, this);
    },
    onDown(event) {
      if (event.button || event.pointerType !== "mouse" || !this.raw) return;
      this.dragged = this.at(event);
      window.addEventListener("pointerup", this.onUp, { once: true });
    },
    showDrag({ x }) {
      const drag = this.$refs.drag;
      drag.hidden = Math.abs(x - this.dragged.x) < SHORTEST_DRAG;
      drag.style.left = `${Math.min(x, this.dragged.x)}px`;
      drag.style.width = `${Math.abs(x - this.dragged.x)}px`;
      this.$refs.tip.hidden = true;
    },
    onUp(event) {
      const from = this.dragged, to = this.at(event);
      this.dragged = null;
      this.$refs.drag.hidden = true;
      if (!from || Math.abs(to.x - from.x) < SHORTEST_DRAG) return;
      const [start, end] = [from.time, to.time].sort((a, b) => a - b);
      this.$emit("zoom", { start: Math.floor(start), end: Math.ceil(end) });
    },
    onDouble() { this.$emit("unzoom"); },
    leave() { if (!this.dragged) k.point(null, this); },
    onKey(event) {
      if (!this.raw || !this.raw.times.length) return;
      const { times } = this.raw;
      const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
      if (move) {
        const index = this.index ?? (move < 0 ? times.length : -1);
        k.point(times[Math.min(Math.max(index + move, 0), times.length - 1)], this);
        event.preventDefault();
      } else if (event.key === "Escape") this.leave();
    },
    // -- cross-hair ---------------------------------------------------------------------------------
    showHair(time, own) {
      const { hair, tip } = this.$refs;
      const nothing = time === null || !this.raw || !this.raw.times.length;
      hair.hidden = nothing;
      tip.hidden = nothing || !own;
      this.hairAgain = nothing ? null : () => this.showHair(time, own);
      if (nothing) { this.index = null; return; }
      const { times, step, marks } = this.raw;
      const last = times.length - 1;
      const index = this.index = Math.min(last, Math.max(0, Math.round((time - times[0]) / step)));
      const x = this.chart.convertToPixel({ xAxisIndex: 0 }, times[index]);
      hair.style.transform = `translateX(${Math.round(x)}px)`;
      if (!own) return;
      const rows = this.lines.map((line) => ({ line, value: line.values[index] }))
        .filter((row) => row.value !== null && row.value !== undefined);
      if (this.stacked) rows.reverse();
      const near = marks.filter((mark) => Math.abs(mark.time - times[index]) <= step * 2);
      tip.replaceChildren(tipOf(times[index], step, rows, near, this));
      const wide = this.$refs.plot.clientWidth;
      const left = x + 14 + tip.offsetWidth > wide ? x - 14 - tip.offsetWidth : x + 14;
      tip.style.transform = `translate(${Math.max(0, Math.round(left))}px, 8px)`;
    },
  },
};

// A value that stands alone between gaps would be a line of no length: it gets a dot.
function item(time, values, i) {
  const alone = values[i] !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null;
  return alone ? { value: [time, values[i]], symbol: "circle", symbolSize: 4 } : [time, values[i]];
}

function summed(lines) {
  const values = lines[0].values.map((_, i) => {
    const there = lines.map((line) => line.values[i]).filter((v) => v !== null);
    return there.length ? there.reduce((a, b) => a + b, 0) : null;
  });
  const totals = lines.map((line) => line.total ?? null);
  const total = totals.includes(null) ? null : totals.reduce((a, b) => a + b, 0);
  return { name: "others", slot: -1, values, total };
}

function statistics(line, { step }) {
  const there = line.values.filter((v) => v !== null);
  const sum = there.reduce((a, b) => a + b, 0);
  return {
    last: line.values.at(-1) ?? null,
    mean: there.length ? sum / there.length : null,
    max: there.length ? Math.max(...there) : null,
    total: line.total ?? (there.length ? (sum * step) / 1000 : null),
  };
}

function tick(ms, length) {
  const d = new Date(ms);
  if (length > 36 * 3600e3 || (length > 3600e3 && !d.getHours() && !d.getMinutes()))
    return d.getHours() || d.getMinutes() ? k.clock(ms, false) : k.day(ms);
  return k.clock(ms, length < 10 * 60e3 || d.getSeconds() !== 0);
}

function tipOf(time, step, rows, marks, chart) {
  const made = document.createDocumentFragment();
  const add = (parent, tag, text = "", name = "") =>
    parent.appendChild(Object.assign(document.createElement(tag), { textContent: text, className: name }));
  const span = step < 60e3 ? k.clock(time) : `${k.clock(time, false)} – ${k.clock(time + step, false)}`;
  add(made, "strong", `${k.day(time)}, ${span}`);
  const table = add(made, "table");
  const shown = rows.slice(0, 12);
  const [unit, texts] = k.column(shown.map((row) => row.value), chart.kind);
  shown.forEach(({ line }, i) => {
    const row = add(table, "tr");
    const name = add(row, "th");
    add(name, "i", "", "k-swatch").style.background = k.colour(line.slot);
    name.append(line.name);
    add(row, "td", unit ? `${texts[i]} ${unit}` : texts[i]);
  });
  if (chart.stacked && rows.length > 1) {
    const row = add(table, "tr", "", "k-sum");
    add(row, "th", "all together");
    add(row, "td", k.text(rows.reduce((sum, { value }) => sum + value, 0), chart.kind));
  }
  for (const mark of marks) add(made, "div", `${k.clock(mark.time)} ${mark.name}: ${mark.what}`, "k-mark");
  return made;
}
