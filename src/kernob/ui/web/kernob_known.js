// How the figures are known. See ../notes.py.
import * as k from "kernob";

export default {
  props: { note: Object, what: String },
  template: `
<details class="k-provenance"><summary>{{ said }}</summary>
  <dl v-if="note">
    <dt>Metrics</dt><dd>{{ note.metrics.join(', ') || '–' }}</dd>
    <dt>Counted at</dt><dd>{{ note.hooks.join('; ') || '–' }}</dd>
    <dt>Lost in this range</dt><dd :class="{ 'k-attention': lost.length }">{{ lost.length ? lost.join(', ') : 'nothing' }}</dd>
    <dt>Resolution</dt><dd>a point each {{ seconds(note.resolution / 1000) }}, drawn in steps of {{ seconds(note.step / 1000) }} (table {{ note.tier }})</dd>
    <dt>Read</dt><dd>{{ note.rows_read.toLocaleString('en') }} points in {{ seconds(note.seconds) }}</dd>
  </dl>
</details>`,
  computed: {
    lost() { return Object.entries(this.note?.lost ?? {}).map(([reason, n]) => `${k.text(n, "count")} ${reason}`); },
    said() {
      if (!this.note) return "How this is known";
      const how = this.note.exact ? `Exact: every ${this.what} is counted in the kernel` : this.what === "byte" ? "Polled in part: short connections may be missing" : "Counted in part: agents that poll see no requests";
      return this.lost.length ? `${how}; ${this.lost.length} kind${this.lost.length === 1 ? "" : "s"} of loss in this range` : `${how}; nothing lost in this range`;
    },
  },
  methods: { seconds: (s) => k.text(s, "seconds") },
};
