// Whether what is shown is true now; also the page's hands: links that stay, back, copy, theme. See ../shell.py.
import * as k from "kernob";

export default {
  mixins: [k.ticking],
  props: { failure: String, since: Number, agents: Object, twin: String, link: String, next: Number },
  emits: ["retry", "location", "seen", "copy"],
  template: `
<footer class="k-foot">
  <span class="k-where">{{ failure ? 'Not up to date' : 'Up to date' }}</span>
  <a v-if="agents" href="/agents" :class="{ 'k-attention': agents.late }">{{ agents.late ? agents.late + ' of ' + agents.all + ' agents late' : !agents.all ? 'No agent' : agents.all + (agents.all === 1 ? ' agent ok' : ' agents ok') }}</a>
  <span>Times in {{ zone }}</span>
  <span class="k-gap"></span>
  <button type="button" class="k-quiet" @click="copyLink">{{ copied ? 'Copied' : 'Copy link' }}</button>
  <a v-if="twin" :href="twin" target="_blank" rel="noopener">JSON</a>
  <button type="button" class="k-quiet" @click="turn" :title="'Colours: ' + theme">{{ { system: 'Theme: system', dark: 'Theme: dark', light: 'Theme: light' }[theme] }}</button>
  <div class="k-failure" v-if="failure" role="alert"><span><b>{{ failure }}</b> {{ since ? 'Shown is what was known ' + when(since, tick) + '.' : '' }}</span>
    <button type="button" @click="$emit('retry')">Try again</button></div>
</footer>`,
  data: () => ({ copied: false, theme: localStorage.getItem("kernob.theme") || "system" }),
  computed: { zone: () => k.zone() },
  mounted() {
    window.addEventListener("popstate", this.onPop);
    document.addEventListener("click", this.onClick);
    document.addEventListener("keydown", this.onEscape);
    document.addEventListener("visibilitychange", this.onSeen);
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.dark.addEventListener("change", this.apply);
  },
  beforeUnmount() {
    window.removeEventListener("popstate", this.onPop);
    document.removeEventListener("click", this.onClick);
    document.removeEventListener("keydown", this.onEscape);
    document.removeEventListener("visibilitychange", this.onSeen);
    this.dark.removeEventListener("change", this.apply);
  },
  methods: {
    when: (ms, _tick) => k.ago(ms),
    onPop() { this.$emit("location", location.search); },
    onSeen() { this.$emit("seen", !document.hidden); },
    // Escape goes back to what is left of the last crumb.
    onEscape(event) {
      if (event.key !== "Escape" || event.target.closest?.("input, .k-range, .k-plot")) return;
      [...document.querySelectorAll(".k-crumbs a")].at(-1)?.click();
    },
    // A link to this very page changes its state, and loads nothing but data.
    onClick(event) {
      const a = event.target.closest?.("a[href^='?']");
      if (!a || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      const there = new URL(a.href).search;
      history.pushState(null, "", there);
      this.$emit("location", there);
    },
    async copyLink() {
      await k.copy(new URL(this.link, location.href).href);
      this.copied = true;
      setTimeout(() => (this.copied = false), 1500);
    },
    turn() {
      const order = ["system", "dark", "light"];
      this.theme = order[(order.indexOf(this.theme) + 1) % 3];
      localStorage.setItem("kernob.theme", this.theme);
      this.apply();
    },
    apply() { window.kernobTheme(); window.dispatchEvent(new Event("kernob:theme")); },
  },
};
