// The time range: presets, own times, live mode. See ../shell.py.
import * as k from "kernob";

const PRESETS = [["5m", "5 minutes", 300e3], ["15m", "15 minutes", 900e3], ["1h", "hour", 3600e3],
  ["6h", "6 hours", 6 * 3600e3], ["24h", "24 hours", 86400e3], ["7d", "7 days", 7 * 86400e3]];

export default {
  props: { span: Object, live: Boolean, time: Number },
  emits: ["range", "live"],
  template: `
<div class="k-range" @keydown.esc="close" @focusout="onBlur">
  <button type="button" ref="button" class="k-pick" :aria-expanded="open" aria-haspopup="dialog" @click="toggle">{{ said }}</button
  ><button type="button" class="k-live" :aria-pressed="live" @click="$emit('live', !live)"
    :title="live ? 'Shows what happens now; click to hold it' : 'Click to follow what happens now'"><i></i>Live</button>
  <div v-if="open" class="k-pop" role="dialog" aria-label="Time range">
    <ul><li v-for="p in presets" :key="p[0]"><button type="button" :aria-current="p[2] === span.length || null" @click="choose(p)">Last {{ p[1] }}</button></li></ul>
    <form @submit.prevent="apply">
      <label>From <input type="datetime-local" step="1" v-model="from" required></label>
      <label>To <input type="datetime-local" step="1" v-model="to" required></label>
      <p class="k-bad" v-if="wrong" role="alert">{{ wrong }}</p>
      <button type="submit" class="k-main">Show</button>
      <small>Times are in {{ zone }}</small>
    </form>
  </div>
</div>`,
  data: () => ({ open: false, from: "", to: "", wrong: "" }),
  created() { k.setNow(this.time); },
  watch: { time(value) { k.setNow(value); } },
  computed: {
    presets: () => PRESETS,
    zone: () => k.zone(),
    said() {
      const { length, start, end } = this.span;
      if (length) return `Last ${PRESETS.find((p) => p[2] === length)?.[1] ?? k.text(length / 1000, "seconds")}`;
      const same = k.day(start) === k.day(end);
      const precise = end - start < 3600e3;
      return `${k.day(start)}, ${k.clock(start, precise)} – ${same ? "" : k.day(end) + ", "}${k.clock(end, precise)}`;
    },
  },
  methods: {
    toggle() {
      this.open = !this.open;
      if (!this.open) return;
      const end = this.span.end || k.now();
      this.from = local(this.span.start || end - this.span.length);
      this.to = local(end);
      this.wrong = "";
      this.$nextTick(() => this.$el.querySelector(".k-pop button").focus());
    },
    close() { if (this.open) { this.open = false; this.$refs.button.focus(); } },
    onBlur(event) { if (this.open && event.relatedTarget && !this.$el.contains(event.relatedTarget)) this.open = false; },
    onOutside(event) { if (this.open && !this.$el.contains(event.target)) this.open = false; },
    choose([, , length]) { this.close(); this.$emit("range", { length }); },
    apply() {
      const start = new Date(this.from).getTime(), end = new Date(this.to).getTime();
      if (!(start < end)) { this.wrong = "The end has to come after the start."; return; }
      this.close();
      this.$emit("range", { start, end });
    },
  },
  mounted() { document.addEventListener("pointerdown", this.onOutside); },
  beforeUnmount() { document.removeEventListener("pointerdown", this.onOutside); },
};

const local = (ms) => {
  const d = new Date(ms), pad = (n) => String(n).padStart(2, "0");
  return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())}T${k.clock(ms)}`;
};
