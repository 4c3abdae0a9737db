/** Small parts that every view uses. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Problem } from "../api.ts";
import { useKnown } from "../context.tsx";
import type { Outcome } from "../types.ts";
import type { Word } from "../words/index.ts";

/** What went wrong, and what to do about it. */
export function Trouble({ problem, again }: { problem: Problem; again?: () => void }) {
  const { say } = useKnown();
  if (problem.status === 401) return <SignInNeeded />;
  const text = problem.code === "unreachable" ? say("unreachable") : problem.detail || say("failed");
  return (
    <div class="trouble" role="alert">
      <p>{text}</p>
      {problem.hint && <p class="quiet">{problem.hint}</p>}
      {again && (
        <button type="button" onClick={again}>
          {say("tryAgain")}
        </button>
      )}
    </div>
  );
}

export function SignInNeeded() {
  const { say } = useKnown();
  return (
    <div class="empty">
      <h2>{say("signInNeeded")}</h2>
      <p>
        <a class="button primary" href="sign-in">
          {say("signIn")}
        </a>
      </p>
      <p class="quiet">{say("signInHint")}</p>
      <Command text="lerobot-backend people link <name>" />
    </div>
  );
}

/** A command to type, with a button that copies it. */
export function Command({ text }: { text: string }) {
  const { say } = useKnown();
  const [copied, setCopied] = useState(false);
  const code = useRef<HTMLElement>(null);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without https, browsers have no clipboard: the old way copies what is selected.
      const range = document.createRange();
      range.selectNodeContents(code.current!);
      getSelection()?.removeAllRanges();
      getSelection()?.addRange(range);
      if (!document.execCommand("copy")) return;
      getSelection()?.removeAllRanges();
    }
    setCopied(true);
    setTimeout(() => setCopied(false), 2000);
  };
  return (
    <div class="command">
      <code ref={code}>{text}</code>
      <button type="button" onClick={copy}>
        {say(copied ? "copied" : "copy")}
      </button>
    </div>
  );
}

export function Empty({
  title,
  hint,
  children,
}: {
  title: string;
  hint?: string;
  children?: ComponentChildren;
}) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {hint && <p class="quiet">{hint}</p>}
      {children}
    </div>
  );
}

export function Loading() {
  const { say } = useKnown();
  return (
    <p class="loading" role="status">
      {say("loading")}
    </p>
  );
}

const SIGNS: Record<Outcome | "unlabelled", string> = {
  success: "✓",
  failure: "✗",
  discarded: "⊘",
  unlabelled: "·",
};

export function signOf(outcome: Outcome | null): string {
  return SIGNS[outcome ?? "unlabelled"];
}

/** What an episode was judged as, told by sign, word and colour. */
export function Label({ outcome }: { outcome: Outcome | null }) {
  const { say } = useKnown();
  const name: Word = outcome ?? "unlabelled";
  return (
    <span class={`label ${name}`}>
      <span aria-hidden="true">{signOf(outcome)}</span> {say(name)}
    </span>
  );
}

export function Dialog({
  title,
  onClose,
  children,
  wide,
}: {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  wide?: boolean;
}) {
  const { say } = useKnown();
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} class={wide ? "wide" : ""} aria-label={title} onClose={onClose}>
      <header>
        <h2>{title}</h2>
        <button type="button" class="plain" aria-label={say("close")} onClick={() => dialog.current?.close()}>
          ×
        </button>
      </header>
      {children}
    </dialog>
  );
}

interface Note {
  id: number;
  text: string;
  wrong: boolean;
}

const SHOWN_MS = 4000;
let told: (note: Note) => void = () => undefined;
let count = 0;

/** Tell something for a moment, at the lower edge. */
export function tell(text: string, wrong = false): void {
  told({ id: ++count, text, wrong });
}

export function Notes() {
  const [notes, setNotes] = useState<Note[]>([]);
  useEffect(() => {
    told = (note) => {
      setNotes((before) => [...before.slice(-2), note]);
      setTimeout(
        () => setNotes((before) => before.filter((each) => each.id !== note.id)),
        note.wrong ? 3 * SHOWN_MS : SHOWN_MS,
      );
    };
  }, []);
  return (
    <div class="notes" role="status" aria-live="polite">
      {notes.map((note) => (
        <p key={note.id} class={note.wrong ? "wrong" : ""}>
          {note.text}
        </p>
      ))}
    </div>
  );
}
