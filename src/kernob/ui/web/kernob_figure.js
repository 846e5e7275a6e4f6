// One figure with its unit and its name. See ../figure.py.
import * as k from "kernob";

export default {
  mixins: [k.ticking],
  props: { value: [Number, String, null], kind: String, label: String, small: Boolean },
  template: `
<span class="k-figure" :class="{ 'k-small': small }" :title="title"><span class="k-label" v-if="label">{{ label }}</span>
<span class="k-value">{{ parts[0] }}<small v-if="parts[1]">&nbsp;{{ parts[1] }}</small></span></span>`,
  computed: {
    parts() {
      void this.tick;
      const said = k.text(this.value, this.kind);
      const split = k.isNumber(this.kind) ? said.indexOf(" ") : -1;
      return split < 0 ? [said, ""] : [said.slice(0, split), said.slice(split + 1)];
    },
    title() {
      if (this.value === null || this.value === undefined) return "not measured";
      if (this.kind === "ago" || this.kind === "time") return k.absolute(this.value);
      if (this.kind === "bytes") return `${this.value.toLocaleString("en")} bytes`;
      return null;
    },
  },
};
