/** The address behind `#`: which view, and its filters. In the fragment it works below any prefix of a proxy,
 * and no address of the API is taken. */

import { useEffect, useState } from "preact/hooks";

export interface Place {
  path: string[];
  query: Record<string, string>;
}

export function parsePlace(hash: string): Place {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  return {
    path: path.split("/").filter(Boolean).map(decodeURIComponent),
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}

export function placeTo(path: (string | number)[], query: Record<string, string | number> = {}): string {
  const told = Object.entries(query).filter(([, value]) => value !== "");
  const words = new URLSearchParams(told.map(([name, value]) => [name, String(value)])).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${words ? `?${words}` : ""}`;
}

export function usePlace(): Place {
  const [place, setPlace] = useState(() => parsePlace(location.hash));
  useEffect(() => {
    const look = () => setPlace(parsePlace(location.hash));
    addEventListener("hashchange", look);
    return () => removeEventListener("hashchange", look);
  }, []);
  return place;
}

/** Change the filters of the address without a step in the history. */
export function replaceQuery(query: Record<string, string | number>): void {
  history.replaceState(null, "", placeTo(parsePlace(location.hash).path, query));
  dispatchEvent(new HashChangeEvent("hashchange"));
}
