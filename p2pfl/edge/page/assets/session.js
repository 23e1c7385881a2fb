// The session of a run with a key: a link begins it, and what the page asks for shows it.
//
// The secret of a link stands behind `#`, which browsers send to nobody, and leaves the address bar
// at once. The session's is kept for this origin, its port included. In an open run there is no
// link, and nothing here asks for anything.

const KEPT = "p2pfl-session";
let mine = null; // where the browser keeps nothing: as long as this page

function kept() {
  try {
    return localStorage.getItem(KEPT) ?? mine;
  } catch {
    return mine;
  }
}

export function asked(path) {
  const session = kept();
  return session ? `${path}?session=${encodeURIComponent(session)}` : path;
}

// The secret of the link in the address, if there is one.
export function taken() {
  const secret = new URLSearchParams(location.hash.slice(1)).get("once");
  if (secret !== null) history.replaceState(null, "", location.pathname);
  return secret;
}

// Use a link up; gives what the node has against it.
export async function begin(secret) {
  try {
    const answer = await fetch("/v1/session", { method: "POST", body: secret });
    if (!answer.ok) return await answer.text();
    mine = (await answer.json()).session;
    localStorage.setItem(KEPT, mine);
  } catch {
    // nobody answers, which the stream finds out too; or nothing is kept, see above
  }
  return "";
}
