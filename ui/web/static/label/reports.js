/** What is said about a single clip beside the preference: flags, break-points; and the comment on a task. */

import { addBreak, clipName, describeTime, frameAt, toggleNoBreaks } from './answers.js';
import { makeId } from './api.js';

export class Reports {
  /**
   * @param {import('./session.js').Session} session
   * @param {import('./view.js').View} view
   */
  constructor(session, view) {
    this.session = session;
    this.view = view;
  }

  /** Raise or take back a flag on the active clip. It is no part of the preference and leaves at once. */
  flag(kind) {
    const { draft, active, outbox } = this.session;
    if (!draft) return;
    const raised = !draft.flags[kind][active];
    draft.flags[kind][active] = raised;
    outbox.add('flag', { flag_id: makeId(), lease_id: draft.task.lease_id, position: active, kind, raised, comment: '' });
    const what = `${raised ? 'reported as' : 'no longer reported as'} ${kind === 'harm' ? 'harmful' : 'broken'}`;
    const more = raised && kind === 'broken' ? ' If you can’t judge it, skip with S.' : '';
    this.view.say(`${clipName(draft.task, active)} ${what}.${more}`);
    this.session.update();
  }

  /** Mark the frame on which the active clip stops making sense. */
  async mark() {
    const { session } = this;
    const { draft, active, player, stage } = session;
    if (!player || stage.veiled) return;
    const wasPlaying = player.playing;
    player.pause();
    const at = frameAt(stage.cards[active].video.currentTime, draft.task.clips[active]);
    const said = await this.view.dialogs.mark(`${clipName(draft.task, active)} stops making sense at ${describeTime(at)}`);
    if (said) addBreak(draft, { position: active, ...at, ...said, none: false });
    if (wasPlaying && session.player === player) player.play();
    session.update();
  }

  /** Say, or take back, that the active clip makes sense to its end. */
  noBreaks() {
    const { draft, active } = this.session;
    if (!draft) return;
    if (!toggleNoBreaks(draft, active)) this.view.say(`${clipName(draft.task, active)} has break-points; remove them first.`);
    this.session.update();
  }

  remove(mark) {
    const { draft } = this.session;
    draft.breaks = draft.breaks.filter((other) => other !== mark);
    this.session.update();
  }

  async comment() {
    const { draft } = this.session;
    if (!draft) return;
    const words = await this.view.dialogs.comment(draft.comment);
    if (words !== null) draft.comment = words.replaceAll('\0', '');
    this.session.update();
  }
}
