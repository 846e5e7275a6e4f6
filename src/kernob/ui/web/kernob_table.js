// A table that sorts, filters by typing, and stays where it is while its rows change. See ../table.py.
import * as k from "kernob";

const ROW = 28;
const AROUND = 12; // rows drawn beyond what is seen

export default {
  mixins: [k.ticking],
  props: {
    columns: Array, rows: String, label: String, order: String, filter: String, more: Number,
    empty: String, placeholder: Number, plain: Boolean, chosen: String,
  },
  emits: ["order", "filter"],
  template: `
<section class="k-table" @keydown="onKey" @click="onClick">
  <header>
    <h2>{{ label }} <small v-if="rows && !plain">{{ counted }}</small></h2>
    <input v-if="!plain" ref="filter" type="search" v-model="typed" :placeholder="'Filter ' + label.toLowerCase()"
      :aria-label="'Filter ' + label" @keydown.esc.stop="typed = ''; $refs.filter.blur()">
    <button v-if="!plain" type="button" class="k-quiet" @click="copyCsv" :disabled="!rows">{{ copied ? 'Copied' : 'Copy CSV' }}</button>
  </header>
  <table :aria-label="label" :aria-rowcount="sorted.length + 1">
    <thead><tr>
      <th v-for="(c, i) in columns" :key="c.name" scope="col" :class="look(c)" :aria-sort="sortOf(i)">
        <button type="button" @click="sortBy(i)" :title="c.hint || null">{{ c.label }}
          <small v-if="units[i].unit">{{ units[i].unit }}</small><b aria-hidden="true">{{ arrow(i) }}</b></button>
      </th>
    </tr></thead>
    <tbody ref="body">
      <tr v-if="above" aria-hidden="true" :style="{ height: above + 'px' }"></tr>
      <tr v-for="row in seen" :key="row.key" :data-key="row.key" :aria-rowindex="row.index + 2"
        :aria-selected="row.key === chosen || null" :tabindex="row.key === active ? 0 : -1" @focus="active = row.key">
        <td v-for="(c, i) in columns" :key="c.name" :class="look(c)" :title="hint(c, row.cells[i])">
          <template v-if="c.kind === 'name'">
            <i class="k-swatch" v-if="row.cells[i].slot !== undefined" :style="{ background: colour(row.cells[i].slot) }"></i
            ><a v-if="row.cells[i].link" :href="row.cells[i].link" tabindex="-1">{{ row.cells[i].text }}</a
            ><span v-else>{{ row.cells[i].text }}</span>
          </template>
          <template v-else-if="c.kind === 'bar'"><span class="k-bar" v-if="row.cells[i] !== null"><i
            :style="{ width: (row.cells[i] * 100).toFixed(1) + '%' }"></i></span><span class="k-percent">{{ units[i].texts[row.at] }}</span></template>
          <template v-else-if="c.kind === 'state'"><span :class="'k-' + row.cells[i].look">{{ row.cells[i].text }}</span></template>
          <svg v-else-if="c.kind === 'line'" class="k-line" viewBox="0 0 96 20" preserveAspectRatio="none" aria-hidden="true"><path :d="drawn(row.cells[i])"/></svg>
          <template v-else-if="c.kind === 'ago'">{{ when(c, row.cells[i], tick) }}</template>
          <template v-else>{{ units[i].texts[row.at] }}</template>
        </td>
      </tr>
      <tr v-if="below" aria-hidden="true" :style="{ height: below + 'px' }"></tr>
      <tr v-if="!rows" v-for="i in placeholder" :key="'bone' + i" class="k-bones"><td :colspan="columns.length"><span class="k-bone"></span></td></tr>
    </tbody>
  </table>
  <p v-if="rows && !sorted.length" class="k-nothing">{{ typed ? 'No row has "' + typed + '" in it.' : empty }}</p>
  <p v-if="more" class="k-note">{{ more }} more are not shown: narrow the range, or filter.</p>
</section>`,
  data() {
    return { typed: this.filter || "", sort: this.order || "", active: null, first: 0, count: 60, copied: false };
  },
  computed: {
    all() { return Object.freeze( (this.rows ? JSON.parse(this.rows) : []).map((row, at) => ({ key: String(row[0]), cells: row[1], at }))); },
    // Each column's texts in one unit; numbers only.
    units() {
      this.was ??= {};
      return this.columns.map((c, i) => {
        const kind = c.kind === "bar" ? "share" : c.kind;
        if (["name", "ago", "state", "line"].includes(kind)) return { unit: "", texts: [] };
        const [unit, texts] = k.column(this.all.map((row) => row.cells[i]), kind, this.was[c.name]);
        this.was[c.name] = unit.slice(0, 1);
        return { unit, texts };
      });
    },
    filtered() {
      const words = this.typed.toLowerCase().split(/\s+/).filter(Boolean);
      if (!words.length) return this.all;
      return this.all.filter((row) => {
        const hay = row.cells.map((cell) => plain(cell)).join(" ").toLowerCase();
        return words.every((word) => hay.includes(word));
      });
    },
    sorted() {
      const name = this.sort.replace(/^-/, "");
      const i = this.columns.findIndex((c) => c.name === name);
      if (i < 0) return this.filtered;
      const sign = this.sort.startsWith("-") ? -1 : 1;
      return [...this.filtered].sort((a, b) => sign * compare(a.cells[i], b.cells[i]) || a.at - b.at);
    },
    seen() { return this.sorted.slice(this.first, this.first + this.count).map((row, i) => ({ ...row, index: this.first + i })); },
    above() { return Math.min(this.first, this.sorted.length) * ROW; },
    below() { return Math.max(0, this.sorted.length - this.first - this.count) * ROW; },
    counted() {
      const all = this.all.length;
      return this.sorted.length === all ? k.text(all, "count") : `${this.sorted.length} of ${all}`;
    },
  },
  watch: {
    typed(value) { clearTimeout(this.later); this.later = setTimeout(() => this.$emit("filter", value), 400); this.onScroll(); },
    filter(value) { if (value !== this.typed && document.activeElement !== this.$refs.filter) this.typed = value || ""; },
    order(value) { this.sort = value || ""; },
    rows() { this.onScroll(); },
  },
  mounted() {
    window.addEventListener("scroll", this.onScroll, { passive: true });
    window.addEventListener("resize", this.onScroll, { passive: true });
    this.onScroll();
  },
  beforeUnmount() {
    window.removeEventListener("scroll", this.onScroll);
    window.removeEventListener("resize", this.onScroll);
    clearTimeout(this.later);
  },
  methods: {
    colour: k.colour,
    when: (c, cell, _tick) => (cell === null ? c.none || "–" : k.ago(cell)),
    look: (c) => [k.isNumber(c.kind) || c.kind === "bar" ? "k-number" : "", c.wide ? "k-wide" : "", "k-kind-" + c.kind, "k-col-" + c.name],
    hint(c, cell) {
      if (cell === null || cell === undefined) return c.why || null;
      if (c.kind === "ago") return k.absolute(cell);
      if (c.kind === "bytes") return `${cell.toLocaleString("en")} bytes`;
      if (c.kind === "rate") return `${k.text(cell, "rate")}`;
      if (c.kind === "name" || c.kind === "state") return cell.hint || cell.text;
      return typeof cell === "string" ? cell : null;
    },
    sortOf(i) {
      const name = this.columns[i].name;
      return this.sort === name ? "ascending" : this.sort === `-${name}` ? "descending" : null;
    },
    arrow(i) { return { ascending: "↑", descending: "↓" }[this.sortOf(i)] || ""; },
    sortBy(i) {
      const { name, kind } = this.columns[i];
      const text = kind === "name" || kind === "text" || kind === "state";
      const first = text ? name : `-${name}`, second = text ? `-${name}` : name;
      this.sort = this.sort === first ? second : first;
      this.$emit("order", this.sort);
    },
    onScroll() {
      const top = this.$refs.body?.getBoundingClientRect().top ?? 0;
      const first = Math.max(0, Math.floor(-top / ROW) - AROUND);
      this.first = Math.min(first, Math.max(0, this.sorted.length - 1));
      this.count = Math.ceil(window.innerHeight / ROW) + 2 * AROUND;
    },
    onKey(event) {
      if (event.target.tagName === "INPUT") {
        if (event.key === "ArrowDown" && this.sorted.length) this.focus(0, event);
        return;
      }
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const at = this.sorted.findIndex((row) => row.key === this.active);
      const page = Math.floor(window.innerHeight / ROW) - 6;
      const move = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: Infinity }[event.key];
      const row = event.target.closest("tr[data-key]");
      if (move !== undefined && (row || event.key === "ArrowDown")) this.focus(move, event);
      else if (event.key === "Enter" && row) row.querySelector("a")?.click();
      // Typing in the table filters it.
      else if (row && event.key.length === 1 && event.key !== "/" && event.key !== " " && !this.plain) { this.typed += event.key; this.$refs.filter.focus(); event.preventDefault(); }
    },
    // A click anywhere in a row is one on its link, unless a text is being marked.
    onClick(event) {
      const row = event.target.closest("tr[data-key]");
      if (row && !event.target.closest("a, button") && getSelection().isCollapsed) row.querySelector("a")?.click();
    },
    drawn(values) {
      values ??= [];
      const most = Math.max(...values, 0) || 1, step = 96 / Math.max(1, values.length - 1);
      const point = (v, i) => `${values[i - 1] == null ? "M" : "L"}${(i * step).toFixed(1)} ${(19 - (v / most) * 18).toFixed(1)}`;
      return values.map((v, i) => (v === null ? "" : point(v, i))).join("");
    },
    async focus(index, event) {
      event.preventDefault();
      const at = Math.min(Math.max(index, 0), this.sorted.length - 1);
      if (at < 0) return;
      this.active = this.sorted[at].key;
      if (at < this.first || at >= this.first + this.count) { this.first = Math.max(0, at - AROUND); await this.$nextTick(); }
      await this.$nextTick();
      this.$refs.body.querySelector(`tr[data-key="${CSS.escape(this.active)}"]`)?.focus({ preventScroll: false });
    },
    async copyCsv() {
      const quote = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
      const lines = [this.columns.map((c) => quote(c.label)), ...this.sorted.map((row) => row.cells.map((cell) => quote(plain(cell))))];
      await k.copy(lines.map((line) => line.join(",")).join("\n") + "\n");
      this.copied = true;
      setTimeout(() => (this.copied = false), 1500);
    },
  },
};

// Nothing sorts last whichever way.
function compare(a, b) {
  const x = value(a), y = value(b);
  if (x === y) return 0;
  if (x === null) return -1;
  if (y === null) return 1;
  return typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
}
function value(cell) {
  if (cell === null || cell === undefined) return null;
  if (Array.isArray(cell)) return cell.findLast((v) => v !== null) ?? null;
  return typeof cell === "object" ? (cell.order ?? cell.text) : cell;
}
const plain = (cell) => { const v = cell?.text ?? value(cell); return v === null ? "" : String(v); };
