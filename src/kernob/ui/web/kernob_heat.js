// How many took how long, over time, in the buckets that were counted. See ../heatmap.py.
import { echarts } from "nicegui-echart";
import * as k from "kernob";

const MARGIN = { left: 64, right: 12, top: 10, bottom: 24 };
const SHORTEST_DRAG = 6;

export default {
  props: { data: String, height: Number, label: String },
  emits: ["zoom", "unzoom"],
  template: `
<figure class="k-chart k-heat" :class="{ 'k-loading': !data }">
  <div class="k-plot" ref="plot" :style="{ height: height + 'px' }" tabindex="0" role="img" :aria-label="summary"
    @pointermove="onMove" @pointerleave="leave" @pointerdown="onDown" @dblclick="$emit('unzoom')" @keydown="onKey" @blur="leave">
    <div class="k-canvas" ref="canvas"></div>
    <div class="k-hair" ref="hair" hidden></div>
    <div class="k-drag" ref="drag" hidden></div>
    <div class="k-tip" ref="tip" hidden></div>
    <div class="k-skeleton" v-if="!data" aria-hidden="true"></div>
    <div class="k-nothing" v-else-if="!raw.cells.length">No requests in this range.</div>
  </div>
</figure>`,
  computed: {
    raw() { return this.data ? Object.freeze(JSON.parse(this.data)) : null; },
    counts() { return new Map(this.raw.cells.map(([x, y, n]) => [x * 1000 + y, n])); },
    summary() {
      if (!this.raw) return `${this.label}: loading`;
      if (!this.raw.cells.length) return `${this.label}: nothing in this range`;
      const of = new Map();
      let all = 0;
      for (const [, y, n] of this.raw.cells) { of.set(y, (of.get(y) ?? 0) + n); all += n; }
      const [most, n] = [...of].sort((a, b) => b[1] - a[1])[0];
      return `${this.label}: ${k.text(all, "count")} requests, most of them (${k.text(n / all, "share")}) took ${this.bounds(most)}.`;
    },
  },
  watch: { data() { this.draw(); } },
  mounted() {
    this.chart = echarts.init(this.$refs.canvas, null, { renderer: "canvas" });
    this.size = new ResizeObserver(() => { this.chart.resize(); this.leave(); });
    this.size.observe(this.$refs.canvas);
    this.offPoint = k.onPoint(({ time, chart }) => this.showHair(time, chart === this));
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
    bounds(y) {
      const { bounds } = this.raw;
      return `${k.text(bounds[y], "seconds")} to ${k.text(bounds[y + 1], "seconds")}`;
    },
    draw() {
      if (!this.chart || !this.raw) return;
      const { times, bounds, cells, step } = this.raw;
      const labels = { color: k.css("--text-2"), fontSize: 11, fontFamily: k.css("--font") };
      const line = { lineStyle: { color: k.css("--line") } };
      const long = times.length * step > 36 * 3600e3;
      const most = Math.log(Math.max(1, ...cells.map((cell) => cell[2])) + 1);
      const every = Math.ceil((bounds.length - 1) / 5), wide = Math.ceil(times.length / 8);
      this.chart.setOption({
        animation: false, grid: MARGIN,
        xAxis: { type: "category", data: times, axisTick: { show: false }, axisLine: line, splitLine: { show: false },
          axisLabel: { ...labels, interval: (i) => i % wide === 0 && i > 0, hideOverlap: true,
            formatter: (ms) => (long ? k.day(+ms) : k.clock(+ms, step < 60e3 && times.length * step < 600e3)) } },
        yAxis: { type: "category", data: bounds.slice(1), axisTick: { show: false }, axisLine: { show: false }, splitLine: { show: false },
          axisLabel: { ...labels, interval: (i) => i % every === 0, formatter: (s) => k.text(+s, "seconds") } },
        // Few among many must still be seen: colour goes by the logarithm of the count.
        visualMap: { show: false, dimension: 2, min: 0, max: most, inRange: { color: [k.css("--accent")], colorAlpha: [0.1, 1] } },
        series: [{ type: "heatmap", silent: true, animation: false, progressive: 0, emphasis: { disabled: true },
          data: cells.map(([x, y, n]) => [x, y, Math.log(n + 1)]) }],
      }, { notMerge: true });
      this.hairAgain?.();
    },
    // -- pointer ------------------------------------------------------------------------------------
    at(event) {
      const box = this.$refs.canvas.getBoundingClientRect();
      const x = Math.min(Math.max(event.clientX - box.left, MARGIN.left), box.width - MARGIN.right);
      const wide = (box.width - MARGIN.left - MARGIN.right) / Math.max(1, this.raw.times.length);
      const high = (this.height - MARGIN.top - MARGIN.bottom) / Math.max(1, this.raw.bounds.length - 1);
      const row = Math.floor((this.height - MARGIN.bottom - (event.clientY - box.top)) / high);
      return { x, row, time: this.raw.times[0] + ((x - MARGIN.left) / wide) * this.raw.step };
    },
    onMove(event) {
      if (!this.raw || !this.raw.times.length) return;
      const at = this.at(event);
      if (this.dragged) return this.showDrag(at);
      this.row = at.row;
      k.point(Math.floor((at.time - this.raw.times[0]) / this.raw.step) * this.raw.step + this.raw.times[0], this);
    },
    onDown(event) {
      if (event.button || event.pointerType !== "mouse" || !this.raw || !this.raw.times.length) return;
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
    onKey(event) {
      if (!this.raw || !this.raw.times.length) return;
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (event.key === "Escape") return this.leave();
      if (!move) return;
      const { times, bounds } = this.raw;
      const within = (n, most) => Math.min(Math.max(n, 0), most);
      this.row = within((this.row ?? 0) + move[1], bounds.length - 2);
      k.point(times[within((this.index ?? (move[0] < 0 ? times.length : -1)) + move[0], times.length - 1)], this);
      event.preventDefault();
    },
    leave() { if (!this.dragged) k.point(null, this); },
    showHair(time, own) {
      const { hair, tip, plot } = this.$refs;
      const nothing = time === null || !this.raw || !this.raw.times.length;
      hair.hidden = nothing;
      tip.hidden = nothing || !own;
      this.hairAgain = nothing ? null : () => this.showHair(time, own);
      if (nothing) { this.index = null; return; }
      const { times, step, bounds } = this.raw;
      const index = this.index = Math.min(times.length - 1, Math.max(0, Math.round((time - times[0]) / step)));
      const wide = (plot.clientWidth - MARGIN.left - MARGIN.right) / times.length;
      const x = MARGIN.left + (index + 0.5) * wide;
      hair.style.transform = `translateX(${Math.round(x)}px)`;
      if (!own) return;
      tip.replaceChildren();
      const add = (tag, text) => tip.appendChild(Object.assign(document.createElement(tag), { textContent: text }));
      const precise = step < 60e3;
      add("strong", `${k.day(times[index])}, ${k.clock(times[index], precise)} – ${k.clock(times[index] + step, precise)}`);
      if (this.row >= 0 && this.row < bounds.length - 1) {
        const n = this.counts.get(index * 1000 + this.row) ?? 0;
        add("div", `${n.toLocaleString("en")} request${n === 1 ? "" : "s"} took ${this.bounds(this.row)}`);
      }
      const left = x + 14 + tip.offsetWidth > plot.clientWidth ? x - 14 - tip.offsetWidth : x + 14;
      tip.style.transform = `translate(${Math.max(0, Math.round(left))}px, 8px)`;
    },
  },
};
