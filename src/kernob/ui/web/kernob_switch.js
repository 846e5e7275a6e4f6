// One of a few: all of them are seen, arrows move. See ../switch.py.
export default {
  props: { options: Array, value: String, label: String },
  emits: ["choose"],
  data() { return { chosen: this.value }; },
  watch: { value(value) { this.chosen = value; } },
  template: `
<div class="k-switch" role="radiogroup" :aria-label="label" @keydown="onKey"><span class="k-label" v-if="label">{{ label }}</span
><button v-for="o in options" :key="o[0]" type="button" role="radio" :aria-checked="o[0] === chosen" :data-value="o[0]"
  :tabindex="o[0] === chosen ? 0 : -1" @click="choose(o[0])">{{ o[1] }}</button></div>`,
  methods: {
    choose(value) { if (value !== this.chosen) { this.chosen = value; this.$emit("choose", value); } },
    onKey(event) {
      const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!move) return;
      event.preventDefault();
      const at = this.options.findIndex((o) => o[0] === this.chosen) + move;
      const [value] = this.options[(at + this.options.length) % this.options.length];
      this.choose(value);
      this.$nextTick(() => this.$el.querySelector(`[data-value="${value}"]`).focus());
    },
  },
};
