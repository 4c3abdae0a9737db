import { expect, it } from "vitest";
import { en } from "../src/words/en.ts";
import { CATALOGUES, fill, preferred } from "../src/words/index.ts";

const places = (text: string) => [...new Set(text.match(/\{\w+\}/g) ?? [])].sort();

it("both catalogues have the same words, with the same places, and none is empty", () => {
  for (const catalogue of Object.values(CATALOGUES)) {
    expect(Object.keys(catalogue)).toEqual(Object.keys(en));
    for (const [name, text] of Object.entries(catalogue)) {
      expect(text.trim(), name).not.toBe("");
      expect(places(text), name).toEqual(places(en[name as keyof typeof en]));
    }
  }
});

it("no word of the page stands only in its parts", async () => {
  const sources = import.meta.glob<string>("../src/**/*.tsx", {
    query: "?raw",
    import: "default",
    eager: true,
  });
  const used = new Set<string>();
  for (const source of Object.values(sources)) {
    for (const found of source.matchAll(/["']([a-zA-Z]+)["']/g)) used.add(found[1]!);
    // What stands between tags is a name, a sign or a unit: never a sentence.
    const between = [...source.matchAll(/>\s*([A-Z][a-z]+ [a-z]+[^<>{}]*)</g)].map((found) => found[1]);
    expect(between).toEqual([]);
  }
  expect(Object.keys(en).filter((name) => !used.has(name))).toEqual([]);
});

it("places are filled, and one is told from many", () => {
  expect(fill("{n} frame|{n} frames", { n: 1 })).toBe("1 frame");
  expect(fill("{n} frame|{n} frames", { n: "1,200" })).toBe("1,200 frames");
  expect(fill("{n}프레임", { n: 1 })).toBe("1프레임");
  expect(fill("{name} · {role}", { name: "anna" })).toBe("anna · {role}");
});

it("the language is the first of the browser's that there is", () => {
  expect(preferred(["ko-KR", "en"])).toBe("ko");
  expect(preferred(["fr-FR", "ko"])).toBe("ko");
  expect(preferred(["de"])).toBe("en");
});
