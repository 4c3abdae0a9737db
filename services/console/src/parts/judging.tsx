/** Says what somebody saw of an episode: outcome, reason, quality, note, tags; and takes it back. */

import { useEffect, useRef, useState } from "preact/hooks";
import { get, send } from "../api.ts";
import { problemIn } from "../asking.ts";
import { type Say, useKnown } from "../context.tsx";
import type { Action } from "../model/keys.ts";
import type { EpisodeView, Outcome, OutcomeReason } from "../types.ts";
import { Dialog, Label, signOf, tell } from "./common.tsx";

export interface Change {
  outcome?: Outcome | null;
  reason?: string | null;
  quality?: number | null;
  note?: string | null;
  tags?: string[];
}

export interface Episode extends EpisodeView {
  session_id: number;
}

/** An episode as words: "✗ failure, dropped, 2/5". */
export function told(episode: EpisodeView, say: Say): string {
  const parts = [`${signOf(episode.outcome)} ${say(episode.outcome ?? "unlabelled")}`];
  if (episode.reason) parts.push(episode.reason);
  if (episode.quality) parts.push(`${episode.quality}/5`);
  return parts.join(", ");
}

const OUTCOMES: [Outcome, string][] = [
  ["success", "S"],
  ["failure", "F"],
  ["discarded", "D"],
];
const MAX_QUALITY = 5;

// What one person says comes one after the other, each on top of the one before, however fast they type: what the
// backend has answered may be newer than what is on the screen.
let before: Promise<unknown> = Promise.resolve();
const answered = new Map<string, number>();

/** The backend's answer to a change of an episode, once the changes before it are answered. */
function tellBackend(of: Episode, change: Change | "undo"): Promise<EpisodeView> {
  const path = `sessions/${of.session_id}/episodes/${of.episode_index}`;
  const ask = async () => {
    const revision = Math.max(of.revision, answered.get(path) ?? 0);
    const now = await (change === "undo"
      ? send<EpisodeView>("POST", `${path}/undo`, { revision })
      : send<EpisodeView>("PATCH", path, { ...change, revision }));
    answered.set(path, now.revision);
    return now;
  };
  const answer = before.then(ask);
  before = answer.catch(() => undefined);
  return answer;
}

export interface Judging {
  /** The outcome whose reason is asked for now. */
  asking: Outcome | null;
  change(change: Change): Promise<void>;
  undo(): Promise<void>;
  choose(outcome: Outcome): Promise<void>;
  chooseReason(number: number): Promise<void>;
  skipReason(): void;
  conflict: { mine: Change; now: Episode } | null;
  decide(mine: boolean): Promise<void>;
  reasons: OutcomeReason[];
  disabled: boolean;
}

interface Wanted {
  episode: Episode | null;
  reasons: OutcomeReason[];
  /** The episode as the backend has it now. */
  onChanged: (episode: Episode) => void;
  /** An outcome, and a reason if one was asked for, have been told. */
  onDone: () => void;
  /** What `undo` takes back; null: the newest change of this episode. */
  undone?: () => Episode | null;
}

/** Changes of one episode, with what the backend says to them. */
export function useJudging({ episode, reasons, onChanged, onDone, undone }: Wanted): Judging {
  const { say, may } = useKnown();
  const [asking, setAsking] = useState<Outcome | null>(null);
  const [conflict, setConflict] = useState<Judging["conflict"]>(null);
  const disabled = !may("operate");
  const key = episode && `${episode.session_id} ${episode.episode_index}`;
  // biome-ignore lint/correctness/useExhaustiveDependencies: another episode
  useEffect(() => {
    setAsking(null);
    setConflict(null);
  }, [key]);

  /** The episode after the change; null if it was refused, which is told. */
  const patch = async (of: Episode, wanted: Change): Promise<Episode | null> => {
    try {
      const now = await tellBackend(of, wanted);
      const changed = { ...of, ...now };
      onChanged(changed);
      return changed;
    } catch (error) {
      const problem = problemIn(error);
      if (problem.code === "episode_changed") {
        const now = await get<EpisodeView>(`sessions/${of.session_id}/episodes/${of.episode_index}`);
        setConflict({ mine: wanted, now: { ...of, ...now } });
      } else {
        tell(problem.detail || say("unreachable"), true);
      }
      return null;
    }
  };

  const change = async (wanted: Change) => {
    if (disabled || !episode) return;
    await patch(episode, wanted);
  };
  const choose = async (outcome: Outcome) => {
    if (disabled || !episode) return;
    const changed = await patch(episode, { outcome });
    if (!changed) return;
    tell(say("saved", { what: told(changed, say) }));
    if (outcome !== "success" && reasons.some((each) => each.outcome === outcome)) setAsking(outcome);
    else onDone();
  };
  const chooseReason = async (number: number) => {
    const chosen = reasons.filter((each) => each.outcome === asking)[number - 1];
    if (disabled || !episode || !chosen) return;
    const changed = await patch(episode, { reason: chosen.name });
    if (!changed) return;
    setAsking(null);
    tell(say("saved", { what: told(changed, say) }));
    onDone();
  };
  const undo = async () => {
    const of = undone?.() ?? episode;
    if (disabled || !of) return;
    try {
      const now = await tellBackend(of, "undo");
      setAsking(null);
      tell(`${say("undone")}: ${told(now, say)}`);
      onChanged({ ...of, ...now });
    } catch (error) {
      const problem = problemIn(error);
      tell(problem.code === "nothing_to_undo" ? say("nothingToUndo") : problem.detail, true);
    }
  };
  const decide = async (mine: boolean) => {
    if (!conflict) return;
    setConflict(null);
    if (mine) await patch(conflict.now, conflict.mine);
    else onChanged(conflict.now);
  };
  const skipReason = () => {
    setAsking(null);
    onDone();
  };
  return { asking, change, undo, choose, chooseReason, skipReason, conflict, decide, reasons, disabled };
}

/** Do what a key asks for about judging; whether it was such a key. */
export function judgeBy(action: Action, judging: Judging): boolean {
  if (judging.disabled) return false;
  if (action === "success" || action === "failure" || action === "discarded") void judging.choose(action);
  else if (action === "undo") void judging.undo();
  else if (action.startsWith("digit-")) {
    const number = Number(action.slice("digit-".length));
    if (judging.asking) void judging.chooseReason(number);
    else if (number <= MAX_QUALITY) void judging.change({ quality: number });
  } else if (action === "note" || action === "tags") {
    document.querySelector<HTMLElement>(`.judge [name=${action}]`)?.focus();
  } else return false;
  return true;
}

export function JudgePanel({ episode, judging }: { episode: Episode; judging: Judging }) {
  const { say, me } = useKnown();
  const reasons = judging.reasons.filter((each) => each.outcome === (judging.asking ?? episode.outcome));
  return (
    <section class="judge" aria-label={say("judge")}>
      <header>
        <h2>{say("episode", { n: episode.episode_index })}</h2>
        <Label outcome={episode.outcome} />
      </header>
      <p class="quiet">
        {episode.task ?? say("noTask")}
        {episode.operator && ` · ${episode.operator}`}
        {episode.cut_off && ` · ${say("cutOff")}`}
        {episode.end_frame === null && ` · ${say("stillRecording")}`}
      </p>
      {judging.disabled && <p class="quiet">{say("readOnly", { role: me?.role ?? "–" })}</p>}
      <fieldset class="outcomes" disabled={judging.disabled}>
        <legend class="hidden">{say("outcome")}</legend>
        {OUTCOMES.map(([outcome, key]) => (
          <button
            type="button"
            key={outcome}
            class={outcome}
            aria-pressed={episode.outcome === outcome}
            aria-keyshortcuts={key}
            onClick={() => void judging.choose(outcome)}
          >
            <span>
              <span aria-hidden="true">{signOf(outcome)}</span> {say(outcome)}
            </span>
            <kbd>{key}</kbd>
          </button>
        ))}
      </fieldset>
      {judging.asking && <Reasons judging={judging} reasons={reasons} />}
      {!judging.asking && episode.outcome && reasons.length > 0 && (
        <label>
          {say("reason")}
          <select
            disabled={judging.disabled}
            value={episode.reason ?? ""}
            onChange={(event) => void judging.change({ reason: event.currentTarget.value || null })}
          >
            <option value="">{say("noReason")}</option>
            {episode.reason && !reasons.some((each) => each.name === episode.reason) && (
              <option value={episode.reason}>{episode.reason}</option>
            )}
            {reasons.map((each) => (
              <option key={each.name} value={each.name} title={each.meaning}>
                {each.name.replaceAll("_", " ")}
              </option>
            ))}
          </select>
        </label>
      )}
      <Details episode={episode} judging={judging} />
      <footer>
        <button
          type="button"
          disabled={judging.disabled || episode.revision === 0}
          aria-keyshortcuts="U"
          onClick={() => void judging.undo()}
        >
          {say("undo")} <kbd>U</kbd>
        </button>
        {episode.revision > 0 && <small class="quiet">{say("history", { n: episode.revision })}</small>}
      </footer>
      {judging.conflict && <Conflict judging={judging} />}
    </section>
  );
}

function Reasons({ judging, reasons }: { judging: Judging; reasons: OutcomeReason[] }) {
  const { say } = useKnown();
  return (
    <section class="reasons" aria-label={say("reason")}>
      <p>{say("reasonAsk")}</p>
      {reasons.slice(0, 9).map((each, at) => (
        <button type="button" key={each.name} onClick={() => void judging.chooseReason(at + 1)}>
          <kbd>{at + 1}</kbd>
          <span>
            {each.name.replaceAll("_", " ")}
            <small class="quiet">{each.meaning}</small>
          </span>
        </button>
      ))}
      <button type="button" onClick={() => judging.skipReason()}>
        <kbd>↵</kbd> {say("noReason")}
      </button>
    </section>
  );
}

/** Quality, note and tags. */
function Details({ episode, judging }: { episode: Episode; judging: Judging }) {
  const { say } = useKnown();
  const note = useRef<HTMLTextAreaElement>(null);
  const tags = useRef<HTMLInputElement>(null);
  const saveNote = () => {
    const text = note.current!.value.trim();
    if (text !== (episode.note ?? "")) void judging.change({ note: text || null });
  };
  const saveTags = () => {
    const wanted = tags
      .current!.value.split(",")
      .map((each) => each.trim())
      .filter(Boolean);
    if (wanted.join() !== episode.tags.join()) void judging.change({ tags: wanted });
  };
  const leave = (event: KeyboardEvent) => {
    const done = event.key === "Escape" || (event.key === "Enter" && !event.shiftKey);
    if (!done || event.isComposing) return;
    event.preventDefault();
    (event.currentTarget as HTMLElement).blur();
  };
  const key = `${episode.session_id} ${episode.episode_index} ${episode.revision}`;
  return (
    <fieldset disabled={judging.disabled}>
      <legend>{say("quality")}</legend>
      <div class="quality">
        {Array.from({ length: MAX_QUALITY }, (_, at) => at + 1).map((number) => (
          <button
            type="button"
            key={number}
            aria-pressed={episode.quality === number}
            aria-label={say("qualityOf", { n: number })}
            onClick={() => void judging.change({ quality: episode.quality === number ? null : number })}
          >
            {number}
          </button>
        ))}
      </div>
      <label key={`note ${key}`}>
        <span>
          {say("note")} <kbd>N</kbd>
        </span>
        <textarea
          ref={note}
          name="note"
          rows={2}
          placeholder={say("notePlaceholder")}
          defaultValue={episode.note ?? ""}
          onBlur={saveNote}
          onKeyDown={leave}
        />
      </label>
      <label key={`tags ${key}`}>
        <span>
          {say("tags")} <kbd>T</kbd>
        </span>
        <input
          ref={tags}
          name="tags"
          placeholder={say("tagsPlaceholder")}
          defaultValue={episode.tags.join(", ")}
          onBlur={saveTags}
          onKeyDown={leave}
        />
      </label>
    </fieldset>
  );
}

function Conflict({ judging }: { judging: Judging }) {
  const { say } = useKnown();
  const decided = useRef(false);
  const decide = (mine: boolean) => {
    decided.current = true;
    void judging.decide(mine);
  };
  return (
    <Dialog title={say("changedTitle")} onClose={() => decided.current || void judging.decide(false)}>
      <p>{say("changedHint")}</p>
      <p>
        <b>{say("changedNow", { what: told(judging.conflict!.now, say) })}</b>
      </p>
      <footer>
        <button type="button" onClick={() => decide(true)}>
          {say("applyMine")}
        </button>
        <button type="button" class="primary" onClick={() => decide(false)}>
          {say("keepTheirs")}
        </button>
      </footer>
    </Dialog>
  );
}
