/** Which key means what. By its place on the keyboard, so that a Korean input method changes nothing. Pure. */

export type Action =
  | "play"
  | "back"
  | "pause"
  | "forward"
  | "frame-back"
  | "frame-on"
  | "ten-back"
  | "ten-on"
  | "start"
  | "end"
  | "previous"
  | "next"
  | "success"
  | "failure"
  | "discarded"
  | "undo"
  | "note"
  | "tags"
  | "help"
  | `digit-${number}`;

const KEYS: Record<string, Action> = {
  Space: "play",
  KeyJ: "back",
  KeyK: "pause",
  KeyL: "forward",
  ArrowLeft: "frame-back",
  ArrowRight: "frame-on",
  Home: "start",
  End: "end",
  ArrowUp: "previous",
  ArrowDown: "next",
  KeyS: "success",
  KeyF: "failure",
  KeyD: "discarded",
  KeyU: "undo",
  KeyN: "note",
  KeyT: "tags",
};

export interface Pressed {
  code: string;
  key: string;
  shiftKey: boolean;
  ctrlKey: boolean;
  metaKey: boolean;
  altKey: boolean;
}

/** What a key asks for; null: nothing, or something of the browser's. */
export function actionOf(pressed: Pressed): Action | null {
  if (pressed.altKey) return null;
  if (pressed.ctrlKey || pressed.metaKey) {
    return pressed.code === "KeyZ" && !pressed.shiftKey ? "undo" : null;
  }
  if (pressed.key === "?") return "help";
  if (pressed.shiftKey) {
    if (pressed.code === "ArrowLeft") return "ten-back";
    if (pressed.code === "ArrowRight") return "ten-on";
    return null;
  }
  const digit = /^(?:Digit|Numpad)([1-9])$/.exec(pressed.code);
  if (digit) return `digit-${Number(digit[1])}`;
  return KEYS[pressed.code] ?? null;
}

/** Whether a key belongs to what has the focus: a field that is written into, or an open list. */
export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  return target.closest("input:not([type=checkbox]), textarea, select, dialog") !== null;
}
