// Search over services, processes, hosts and peers; `/` focuses it. See ../shell.py.
export default {
  props: { found: Object },
  emits: ["search", "choose"],
  template: `
<div class="k-search" role="search" @focusout="onBlur">
  <input ref="input" type="search" v-model="text" placeholder="Search" aria-label="Search services, processes, hosts, peers"
    role="combobox" aria-controls="k-found" :aria-expanded="open" :aria-activedescendant="open && items.length ? 'k-found-' + at : null"
    autocomplete="off" spellcheck="false" @input="ask" @focus="open = !!text" @keydown="onKey"><kbd v-if="!text" aria-hidden="true">/</kbd>
  <ul v-if="open" id="k-found" class="k-pop" role="listbox">
    <li v-for="(item, i) in items" :key="item.link" :id="'k-found-' + i" role="option" :aria-selected="i === at"
      @pointerenter="at = i" @pointerdown.prevent="choose(i)"><small>{{ item.kind }}</small><span>{{ item.name }}</span><small>{{ item.detail }}</small></li>
    <li v-if="!items.length" class="k-none">{{ waiting ? 'Searching' : failed || 'Nothing is called so. Names of services, processes, hosts and peers are searched.' }}</li>
  </ul>
</div>`,
  data: () => ({ text: "", open: false, at: 0 }),
  computed: {
    answered() { return this.found && this.found.text === this.text.trim(); },
    items() { return this.found && this.text.trim() ? this.found.found : []; },
    waiting() { return !this.answered; },
    failed() { return this.found ? this.found.failed : ""; },
  },
  watch: { found() { this.at = 0; } },
  mounted() { document.addEventListener("keydown", this.onSlash); },
  beforeUnmount() { document.removeEventListener("keydown", this.onSlash); clearTimeout(this.later); },
  methods: {
    onSlash(event) {
      const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
      if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      this.$refs.input.focus();
      this.$refs.input.select();
    },
    ask() {
      this.open = !!this.text.trim();
      clearTimeout(this.later);
      if (this.open) this.later = setTimeout(() => this.$emit("search", this.text.trim()), 120);
    },
    onKey(event) {
      if (event.key === "Escape") { if (this.text) { this.text = ""; this.open = false; } else this.$refs.input.blur(); event.stopPropagation(); }
      else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        const n = this.items.length || 1;
        this.at = (this.at + (event.key === "ArrowDown" ? 1 : n - 1)) % n;
        event.preventDefault();
      } else if (event.key === "Enter" && this.items.length && this.answered) this.choose(this.at);
    },
    choose(i) {
      const item = this.items[i];
      if (!item) return;
      this.text = ""; this.open = false; this.$refs.input.blur();
      this.$emit("choose", item.link);
    },
    onBlur(event) { if (!this.$el.contains(event.relatedTarget)) this.open = false; },
  },
};
