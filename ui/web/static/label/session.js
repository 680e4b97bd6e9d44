/** What is on the screen and what came before: shows a task, takes its answers, goes on and goes back. */

import { askAxis, isComplete, record, takeBack, toAnswer, toSubmission } from './answers.js';
import { Player } from './player.js';
import { Stage } from './stage.js';
import { Trail } from './trail.js';


export class Session {
  #trail = new Trail();
  #speed = 1;
  #shownAt = 0;
  #focused = -1; // the clip that had the focus when it went out of sight

  /**
   * @param {object} parts
   * @param {import('./queue.js').TaskQueue} parts.queue
   * @param {import('./outbox.js').Outbox} parts.outbox
   * @param {import('./view.js').View} parts.view
   * @param {import('./drafts.js').Drafts} parts.drafts
   * @param {object} parts.actions given to every Stage
   * @param {() => object} parts.me what the server last said about annotator, guideline and settings
   */
  constructor(parts) {
    Object.assign(this, parts);
    /** @type {?Stage} */
    this.stage = null;
    /** @type {?Player} */
    this.player = null;
    this.active = 0;
    this.correcting = false;
  }

  /** @returns {?import('./answers.js').Draft} */
  get draft() {
    return this.stage?.draft ?? null;
  }

  get canUndo() {
    return !this.#trail.isEmpty || Boolean(this.draft?.answers.some(Boolean) || this.draft?.order.length);
  }

  /** Every stage that is in the page, for a new layout. */
  get stages() {
    return [...this.queue.stages, ...this.#shown].filter((stage) => !stage.disposed);
  }

  get #shown() {
    return this.stage ? [...this.#trail.stages, this.stage] : this.#trail.stages;
  }

  /** Leases without a single answer, to be handed back. */
  untouchedLeases() {
    const current = this.stage && !this.correcting && !this.draft.answers.some(Boolean) ? [this.stage] : [];
    return [...this.queue.stages, ...current].map((stage) => stage.task.lease_id);
  }

  /** Leases that the queue must not offer again, and how many of them the server may count as open. */
  get inUse() {
    const shown = this.#shown.map((stage) => stage.task.lease_id);
    const done = new Set([...this.outbox.leaseIds(), ...shown]);
    const fresh = this.outbox.waiting().filter((item) => item.kind === 'submit' && item.fresh);
    return { done, open: fresh.length + (this.stage && !this.correcting ? 1 : 0) };
  }

  /** Show the next task if there is one ready. */
  advance() {
    const next = this.queue.take();
    if (next) this.#show(next, false);
    else {
      this.#hide();
      Object.assign(this, { stage: null, correcting: false });
      this.update();
    }
    if (this.queue.isShort) this.queue.fill();
  }

  /** Answer the question that is asked. @param {string} value of a choice, see answers.choicesOf */
  answer(value) {
    const { draft } = this;
    if (!draft) return;
    if (this.stage.veiled && value !== 'skip') return this.view.say('Show the clips first with V, or skip with S.');
    const answer = toAnswer(draft, value);
    if (!answer) return this.update();
    record(draft, { ...answer, response_time_s: this.#elapsedS() }, this.correcting);
    if (isComplete(draft) && (!this.correcting || draft.axisIdx === 0)) this.finish();
    else this.update();
    return this.view.panel.flash(value);
  }

  /** Skip every question of this task that has no answer. */
  skipAll() {
    if (!this.draft) return;
    this.draft.answers = this.draft.answers.map((answer) => answer ?? { choice: 'skip', response_time_s: this.#elapsedS() });
    this.finish();
  }

  /** Send what is complete and go on. An earlier task that was left as it is sends nothing. */
  finish() {
    const { stage, draft } = this;
    if (!draft || !isComplete(draft)) return;
    this.#send();
    this.#trail.add(stage);
    this.advance();
  }

  /** Back by one answer, or to the task before with its answers. */
  undo() {
    const { draft } = this;
    if (draft && !this.correcting && takeBack(draft)) return this.update();
    const earlier = this.#trail.back();
    if (!earlier) return this.view.say('There is nothing to undo.');
    if (this.stage) this.#leave();
    this.view.say('An earlier task: change an answer, or keep them with Enter.');
    return this.#show(earlier.disposed ? this.#revive(earlier) : earlier, true);
  }

  /** Forget a task that another tab has answered. */
  forget(leaseId) {
    this.queue.drop(leaseId);
    if (this.draft?.task.lease_id !== leaseId || this.correcting || this.draft.answers.some(Boolean)) return;
    this.stage.dispose();
    this.advance();
  }

  select(position) {
    if (!this.draft || position === this.active) return;
    this.active = position;
    this.update();
  }

  setSpeed(direction) {
    if (!this.player) return;
    // 0 comes from the one button that phones have: it goes through all speeds.
    if (direction) this.player.changeSpeed(direction);
    else this.player.cycleSpeed();
    this.#speed = this.player.speed;
  }

  /** Play unless the clips wait behind a warning, a dialog is open, or the system asks for stillness. */
  autoplay() {
    const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
    if (this.player && !this.stage.veiled && !this.view.dialogs.isOpen && !still) this.player.play();
  }

  /** Uncover clips that wait behind a warning, or cover any. */
  toggleVeil() {
    const { stage, player } = this;
    if (!player) return;
    stage.revealed = stage.veiled;
    stage.setVeil(stage.veiled ? '' : 'Blurred by you.');
    if (stage.veiled) player.pause();
    else this.autoplay();
  }

  togglePlay() {
    if (this.stage?.veiled) this.toggleVeil();
    else this.player?.toggle();
  }

  /** Look at another question of this task. */
  ask(axisIdx) {
    if (!this.draft) return;
    askAxis(this.draft, axisIdx);
    this.update();
  }

  /** Something was said or chosen: keep it and show it. */
  update() {
    if (this.draft && !this.correcting) this.drafts.save(this.draft);
    this.view.update(this);
  }

  #follow(what) {
    if (this.player) this.view.transport[what](this.player);
  }

  #prepare(stage) {
    this.view.layout([stage]);
    const { blur } = this.me().settings;
    if (stage.revealed || !(stage.task.warn || blur)) return;
    stage.setVeil(blur ? 'Clips are blurred until you want to see them.' : 'Someone saw harm in one of these clips.');
  }

  #elapsedS() {
    return Math.round(performance.now() - this.#shownAt) / 1000;
  }

  #show(stage, correcting) {
    this.#hide();
    const draft = (stage.draft ??= this.drafts.restore(stage.task));
    Object.assign(this, { stage, correcting, active: 0 });
    if (correcting) askAxis(draft, draft.answers.length - 1);
    if (!stage.ready) {
      stage.load().then(() => this.stage === stage && this.#present());
      this.update();
    } else this.#present();
  }

  #present() {
    const { stage } = this;
    const answered = stage.draft.recent.length;
    this.#shownAt = performance.now();
    // Times count from when the clips play, unless the first answer was quicker still.
    const onStart = () => {
      if (stage.draft.recent.length === answered) this.#shownAt = performance.now();
    };
    const events = { onStart, onChange: () => this.#follow('update'), onTime: () => this.#follow('updateTime') };
    this.player = new Player(stage.playable, this.#speed, events);
    this.#prepare(stage);
    stage.setVisible(true);
    this.autoplay();
    this.update();
    stage.cards[this.#focused]?.element.focus({ preventScroll: true });
  }

  #hide() {
    const { player, stage } = this;
    this.player = null;
    player?.halt();
    if (!stage) return;
    this.#focused = stage.cards.findIndex(({ element }) => element === document.activeElement);
    stage.setVisible(false);
  }

  /** Put the task on the screen where it came from: back in the queue, or among the answered ones. */
  #leave() {
    const { stage, correcting } = this;
    if (correcting) this.#send();
    this.#hide();
    this.stage = null;
    if (correcting) this.#trail.pass(stage);
    else this.queue.putBack(stage);
  }

  #send() {
    const submission = toSubmission(this.draft, this.me().guideline?.version ?? '');
    if (submission) this.outbox.add('submit', submission, !this.correcting);
    this.drafts.drop(this.draft);
  }

  #revive(earlier) {
    const stage = new Stage(earlier.task, this.actions);
    Object.assign(stage, { draft: earlier.draft, revealed: earlier.revealed });
    this.view.mount(stage);
    return stage;
  }
}
