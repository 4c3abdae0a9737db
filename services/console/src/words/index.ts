/** The words of the page in the language that was chosen, or that the browser prefers. */

import { en } from "./en.ts";
import { ko } from "./ko.ts";

export type Words = Record<keyof typeof en, string>;
export type Word = keyof Words;
export type Language = "en" | "ko";

export const CATALOGUES: Record<Language, Words> = { en, ko };

/** A word with its places filled in; `n` also chooses between "one|many". */
export function fill(text: string, values: Record<string, string | number> = {}): string {
  const [one, many] = text.split("|", 2);
  const chosen = many !== undefined && values["n"] !== 1 && values["n"] !== "1" ? many : one!;
  return chosen.replace(/\{(\w+)\}/g, (place, name: string) => String(values[name] ?? place));
}

export function preferred(languages: readonly string[]): Language {
  for (const each of languages) {
    const code = each.toLowerCase().split("-")[0];
    if (code === "ko" || code === "en") return code;
  }
  return "en";
}
