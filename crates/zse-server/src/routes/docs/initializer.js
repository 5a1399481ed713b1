// Shows the document of the server that this page came from, and asks for a key where it wants one.
// The key stays in this page's memory; the password that opened the page is not sent on.
window.onload = async () => {
  let key = "";
  const withKey = (request) => {
    if (key) request.headers.Authorization = `Bearer ${key}`;
    request.credentials = "omit";
    return request;
  };
  const ask = () => fetch("../openapi.json", withKey({ headers: {} }));
  let answer = await ask();
  while (answer.status === 401) {
    key = window.prompt("This server wants an API key:");
    if (key === null) return;
    answer = await ask();
  }
  if (!answer.ok) {
    const page = document.querySelector("#swagger-ui");
    page.textContent = `The server answered ${answer.status} for ${answer.url}.`;
    return;
  }
  window.ui = SwaggerUIBundle({
    spec: await answer.json(),
    dom_id: "#swagger-ui",
    deepLinking: true,
    requestInterceptor: withKey,
    validatorUrl: null,
  });
};
