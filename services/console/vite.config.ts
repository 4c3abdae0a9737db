import { defineConfig } from "vitest/config";

// The page is built into the package that serves it, so that wheels and images have it without Node.
const PAGE = "../../deploy/local/src/teleop_backend/page";

export default defineConfig({
  // Relative, so that the page works below whatever path a proxy puts before it.
  base: "./",
  build: {
    outDir: PAGE,
    emptyOutDir: true,
    assetsDir: "ui",
    // Nothing inline: the page's policy allows only files of its own.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    reportCompressedSize: false,
  },
  test: { include: ["tests/**/*.test.ts"] },
});
