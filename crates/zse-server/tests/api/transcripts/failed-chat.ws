{"id":"chatcmpl-0","object":"chat.completion.chunk","created":0,"model":"builtin","system_fingerprint":"fp_0","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]}
{"id":"chatcmpl-0","object":"chat.completion.chunk","created":0,"model":"builtin","system_fingerprint":"fp_0","choices":[{"index":0,"delta":{"content":"\""},"logprobs":null,"finish_reason":null}]}
{"id":"chatcmpl-0","object":"chat.completion.chunk","created":0,"model":"builtin","system_fingerprint":"fp_0","choices":[{"index":0,"delta":{"content":"Y"},"logprobs":null,"finish_reason":null}]}
{"id":"chatcmpl-0","object":"chat.completion.chunk","created":0,"model":"builtin","system_fingerprint":"fp_0","choices":[{"index":0,"delta":{"content":"e"},"logprobs":null,"finish_reason":null}]}
{"id":"chatcmpl-0","object":"chat.completion.chunk","created":0,"model":"builtin","system_fingerprint":"fp_0","choices":[{"index":0,"delta":{"content":"s"},"logprobs":null,"finish_reason":null}]}
{"error":{"message":"the server failed to process this request","type":"server_error","param":null,"code":null}}
