// A command to type, with a button that copies it. See ../command.py.
import * as k from "kernob";

export default {
  props: { command: String },
  template: `
<div class="k-command"><code>{{ command }}</code><button type="button" class="k-quiet" :aria-label="'Copy ' + command" @click="copyIt">{{ copied ? 'Copied' : 'Copy' }}</button></div>`,
  data: () => ({ copied: false }),
  methods: {
    async copyIt() {
      await k.copy(this.command);
      this.copied = true;
      setTimeout(() => (this.copied = false), 1500);
    },
  },
};
