-- For wrk: posts the body it finds in the environment. Called by wrk.ts.
wrk.method = "POST"
wrk.body = os.getenv("BODY")
wrk.headers["Content-Type"] = "application/json"
