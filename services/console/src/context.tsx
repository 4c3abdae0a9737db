/** What every part of the page knows: the language, the theme, and who one is. */

import { type ComponentChildren, createContext } from "preact";
import { useContext, useEffect, useMemo, useState } from "preact/hooks";
import type { Caller } from "./types.ts";
import { CATALOGUES, fill, type Language, preferred, type Word } from "./words/index.ts";

export type Theme = "auto" | "light" | "dark";
export type Say = (word: Word, values?: Record<string, string | number>) => string;

export interface Known {
  say: Say;
  language: Language;
  setLanguage(language: Language): void;
  theme: Theme;
  setTheme(theme: Theme): void;
  /** Changes whenever the colours may have changed. */
  colours: string;
  me: Caller | null;
  may(need: string): boolean;
}

const Context = createContext<Known | null>(null);

export function useKnown(): Known {
  const known = useContext(Context);
  if (known === null) throw new Error("outside of the page");
  return known;
}

function remembered<T extends string>(name: string, allowed: readonly T[], otherwise: T): T {
  try {
    const found = localStorage.getItem(`lerobot-backend.${name}`);
    return allowed.includes(found as T) ? (found as T) : otherwise;
  } catch {
    // A browser may keep pages from remembering anything.
    return otherwise;
  }
}

export function remember(name: string, value: string): void {
  try {
    localStorage.setItem(`lerobot-backend.${name}`, value);
  } catch {
    return;
  }
}

export function recall(name: string): string | null {
  try {
    return localStorage.getItem(`lerobot-backend.${name}`);
  } catch {
    return null;
  }
}

export function Provide({ me, children }: { me: Caller | null; children: ComponentChildren }) {
  const [language, setLanguage] = useState<Language>(() =>
    remembered("language", ["en", "ko"], preferred(navigator.languages)),
  );
  const [theme, setTheme] = useState<Theme>(() => remembered("theme", ["auto", "light", "dark"], "auto"));
  const [system, setSystem] = useState(() => matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const look = () => setSystem(query.matches);
    query.addEventListener("change", look);
    return () => query.removeEventListener("change", look);
  }, []);
  useEffect(() => {
    document.documentElement.lang = language;
    remember("language", language);
  }, [language]);
  // Before the children draw with the colours.
  if (theme === "auto") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
  useEffect(() => remember("theme", theme), [theme]);
  const known = useMemo<Known>(
    () => ({
      say: (word, values) => fill(CATALOGUES[language][word], values),
      language,
      setLanguage,
      theme,
      setTheme,
      colours: `${theme} ${system}`,
      me,
      may: (need) => me?.may.includes(need) ?? false,
    }),
    [language, theme, system, me],
  );
  return <Context.Provider value={known}>{children}</Context.Provider>;
}
