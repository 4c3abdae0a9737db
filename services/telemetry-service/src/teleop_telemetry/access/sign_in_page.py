"""The page on which people sign in: one file of HTML that fetches nothing from elsewhere.

A link's code is in the fragment of the address, which browsers send to nobody. The page takes it out of the
address at once, so that it does not stay in the history, and uses it when somebody presses the button:
programs that look at links (in chats, in mail) press none.
"""

import base64
import hashlib

STYLE = """
:root { color-scheme: light dark; --line: #8886; --quiet: #777; --go: #1a5fb4; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center;
       font: 16px/1.5 system-ui, sans-serif; }
main { width: min(24em, 90vw); }
h1 { font-size: 1.3em; }
input, button { box-sizing: border-box; width: 100%; font: inherit; padding: .6em; border-radius: .4em;
                border: 1px solid var(--line); }
button { margin-top: .8em; background: var(--go); color: #fff; border: 0; cursor: pointer; }
button:disabled { opacity: .5; }
small { color: var(--quiet); }
[role=alert] { color: light-dark(#b00020, #ff8a80); }
[hidden] { display: none; }
"""

SCRIPT = """
'use strict';
const WORDS = {
  en: {
    title: 'Sign in', link: 'This link signs you in once.', token: 'Token, or what follows # in your link',
    ask: 'Whoever runs this backend makes links: lerobot-backend people link <name>',
    go: 'Sign in', out: 'Sign out', robots: 'Robots', away: 'The backend can not be reached.',
    known: who => `You are signed in as ${who}.`, open: 'Nobody has to sign in from here.',
  },
  ko: {
    title: '로그인', link: '이 링크로 한 번 로그인할 수 있습니다.', token: '토큰 또는 링크의 # 뒷부분',
    ask: '백엔드를 운영하는 사람이 링크를 만듭니다: lerobot-backend people link <이름>',
    go: '로그인', out: '로그아웃', robots: '로봇', away: '백엔드에 연결할 수 없습니다.',
    known: who => `${who}(으)로 로그인했습니다.`, open: '이곳에서는 로그인할 필요가 없습니다.',
  },
};
const language = navigator.language.toLowerCase().startsWith('ko') ? 'ko' : 'en';
const words = WORDS[language];
const here = location.pathname.replace(/\\/+$/, '');
const part = id => document.getElementById(id);
const form = part('form'), input = part('token'), known = part('known'), out = part('out');
let code = '';

document.documentElement.lang = language;
document.title = `${words.title} – LeRobot backend`;
part('title').textContent = words.title;
part('label').textContent = words.token;
part('ask').textContent = words.ask;
part('link').textContent = words.link;
part('go').textContent = words.go;
out.textContent = words.out;

function takeCode() {
  code = location.hash.slice(1);
  if (code) history.replaceState(null, '', location.pathname);
  part('link').hidden = !code;
  part('paste').hidden = Boolean(code);
  input.value = '';
  say('');
}

function say(text) {
  part('trouble').textContent = text;
  part('trouble').hidden = !text;
}

async function ask(method, address, body) {
  const request = {method, cache: 'no-store', credentials: 'same-origin'};
  if (body) {
    request.body = JSON.stringify(body);
    request.headers = {'Content-Type': 'application/json'};
  }
  try {
    return await fetch(here.replace(/[^/]*$/, address), request);
  } catch {
    say(words.away);
    return null;
  }
}

async function look() {
  const answer = await ask('GET', 'me');
  known.hidden = !(answer && answer.ok);
  if (known.hidden) return;
  const me = await answer.json();
  const who = `${me.name} (${me.role}${me.robot_ids ? `; ${words.robots}: ${me.robot_ids.join(', ')}` : ''})`;
  part('who').textContent = ['session', 'proxy', 'token'].includes(me.how) ? words.known(who) : words.open;
  out.hidden = me.how !== 'session';
}

form.addEventListener('submit', async event => {
  event.preventDefault();
  part('go').disabled = true;
  say('');
  const answer = await ask('POST', 'sign-in', {code: code || input.value.trim()});
  part('go').disabled = false;
  if (!answer) return;
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({detail: words.away}));
    takeCode();
    say(problem.detail);
    return;
  }
  takeCode();
  form.hidden = true;
  await look();
});

out.addEventListener('click', async () => {
  const answer = await ask('POST', 'sign-out');
  form.hidden = false;
  if (answer) await look();
});

addEventListener('hashchange', () => { if (location.hash) { takeCode(); form.hidden = false; } });
takeCode();
look();
"""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# What the browser may do with the page: show it, run this one script, and ask the backend that it comes from.
POLICY = (
    f"default-src 'none'; script-src {_hash(SCRIPT)}; style-src {_hash(STYLE)}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<title>Sign in – LeRobot backend</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1 id="title">Sign in</h1>
<noscript><p>This page needs JavaScript.</p></noscript>
<section id="known" hidden><p id="who"></p><button id="out" type="button" hidden></button></section>
<form id="form">
<p id="link" hidden></p>
<div id="paste">
<label id="label" for="token"></label>
<input id="token" type="password" autocomplete="off" spellcheck="false">
<small id="ask"></small>
</div>
<button id="go"></button>
<p id="trouble" role="alert" hidden></p>
</form>
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""
