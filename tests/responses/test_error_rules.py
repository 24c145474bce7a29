"""The documented errors of gateways and providers, and the action for each. Comments name the sources."""

from __future__ import annotations

import pytest

from batchmix.records import Exchange, Failure
from batchmix.responses.classify import classify
from batchmix.responses.error_rules import JOB_FAILURES, RULES
from tests.wire import KEY, Wire, follows, reply


def openai(message: str, code: object = None, kind: str = "invalid_request_error", **more: object) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code, **more}}


def gateway(message: str, code: str = "") -> dict[str, object]:
    return {"error": {"message": f"{message} (request id: 2026112300000001)", "type": "new_api_error", "code": code}}


def claude(message: str, kind: str) -> dict[str, object]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def google(status: int, message: str, name: str) -> list[dict[str, object]]:
    return [{"error": {"code": status, "message": message, "status": name}}]


BUSY = "retry, between answers pause"
AGAIN = "retry, at first stop_model"
NO_PATH = "retry 3, at first stop_path"
QWEN_QUOTA = "You exceeded your current quota, please check your plan and billing details. For details, see: https://help.aliyun.com/zh/model-studio/error-code#token-limit"
SAID: list[tuple[str, int, object, str, str]] = [
    # AiHubMix, docs.aihubmix.com/en/FAQs/HTTP-Codes
    ("AiHubMix", 403, openai("Forbidden – channel has been disabled."), "retry 3", "unknown"),
    ("AiHubMix", 403, openai("Key error;1a2b3c"), "stop_run", "invalid_key"),
    ("AiHubMix", 400, openai("prompt is too long", "prompt_too_long"), "reject", "context_length"),
    ("AiHubMix", 503, openai("该模型遇到官方限速，联系客服增加并发或请稍后重试"), "pause", "throttled"),
    # One API, songquanpeng/one-api: middleware/auth.go, model/token.go, controller/relay.go
    ("One API", 200, gateway("无效的令牌"), "stop_run", "invalid_key"),
    ("One API", 401, gateway("该令牌状态不可用"), "stop_run", "invalid_key"),
    ("One API", 403, gateway("user quota is not enough", "insufficient_user_quota"), "stop_run", "no_balance"),
    ("One API", 403, gateway("令牌额度不足"), "stop_run", "no_balance"),
    ("One API", 429, gateway("当前分组上游负载已饱和，请稍后再试"), "pause", "throttled"),
    ("One API", 503, gateway("当前分组 default 下对于模型 gpt-x 无可用渠道"), AGAIN, "model_not_found"),
    ("One API", 200, gateway("API not found: POST:/v1/x", "api_not_found"), NO_PATH, "not_found"),
    # New API, QuantumNous/new-api: i18n/locales, middleware, controller/relay.go, types/error.go
    ("New API", 401, gateway("Invalid token"), "stop_run", "invalid_key"),
    ("New API", 401, gateway("This token quota is exhausted TokenStatusExhausted[sk-abc***xyz]"), "stop_run", "no_balance"),
    ("New API", 401, gateway("无效的令牌，数据库查询出错，请联系管理员"), "retry", "server_error"),
    ("New API", 500, gateway("数据库错误，请稍后重试"), "retry", "server_error"),
    ("New API", 403, gateway("您的 IP 不在令牌允许访问的列表中", "access_denied"), "stop_run", "account_blocked"),
    ("New API", 403, gateway("无权访问 vip 分组"), "stop_run", "account_blocked"),
    ("New API", 403, gateway("分组 vip 已被弃用"), "stop_run", "account_blocked"),
    ("New API", 403, gateway("This token has no access to model gpt-x"), "stop_model", "model_denied"),
    ("New API", 403, gateway("该令牌无权访问模型 gpt-x"), "stop_model", "model_denied"),
    ("New API", 403, gateway("用户额度不足, 剩余额度: ＄0.00", "insufficient_user_quota"), "stop_run", "no_balance"),
    ("New API", 403, gateway("token quota is not enough, token remain quota: ＄0.01", "pre_consume_token_quota_failed"), "stop_run", "no_balance"),
    ("New API", 503, gateway("No available channel for model gpt-x under group default (distributor)", "model_not_found"), AGAIN, "model_not_found"),
    ("New API", 503, gateway("获取分组 default 下模型 gpt-x 的可用渠道失败（distributor）：context deadline exceeded", "model_not_found"), "retry", "server_error"),
    ("New API", 500, gateway("分组 default 下模型 gpt-x 的可用渠道不存在（retry）", "get_channel_failed"), "retry", "server_error"),
    ("New API", 500, gateway("没有可用的渠道密钥", "channel:no_available_key"), "retry", "server_error"),
    ("New API", 401, gateway("Incorrect API key provided: sk-the-channels", "channel:invalid_key"), "retry", "server_error"),
    ("New API", 401, openai("bad response status code 401", "bad_response_status_code", "upstream_error"), "retry", "server_error"),
    ("New API", 500, gateway("user sensitive words detected", "sensitive_words_detected"), "reject", "content_filter"),
    ("New API", 500, gateway("field messages is required", "invalid_request"), "reject", "rejected"),
    ("New API", 500, gateway("模型 gpt-x 倍率或价格未配置", "model_price_error"), AGAIN, "model_not_found"),
    ("New API", 429, gateway("您已达到请求数限制：1分钟内最多请求60次"), "pause", "throttled"),
    ("New API", 404, openai("Invalid URL (POST /chat/completions)"), NO_PATH, "not_found"),
    # LiteLLM, BerriAI/litellm: proxy/auth/auth_checks.py, router.py; issues 3138, 14144, 20867
    ("LiteLLM", 400, openai("400: {'error': 'Invalid model name passed in model=gpt-x'}", 400), "stop_model", "model_not_found"),
    ("LiteLLM", 401, openai("key not allowed to access model. This key can only access models=['a']. Tried to access b", "401", "key_model_access_denied"), "stop_model", "model_denied"),
    ("LiteLLM", 400, openai("Budget has been exceeded! Current cost: 26.075, Max budget: 0.25", "400", "budget_exceeded"), "stop_run", "no_balance"),
    ("LiteLLM", 401, openai("litellm.AuthenticationError: OpenAIException - Incorrect API key provided: sk-x. Received Model Group=a"), "stop_model", "model_denied"),
    ("LiteLLM", 401, openai("Authentication Error, Invalid proxy server token passed", "401", "auth_error"), "stop_run", "invalid_key"),
    ("LiteLLM", 429, openai("No deployments available for selected model, Try again in 60 seconds.", "429"), "pause", "throttled"),
    ("LiteLLM", 400, openai("litellm.UnsupportedParamsError: openai does not support parameters: ['temperature'], for model=o1", "400"), "reject", "refused_parameter"),
    # OpenRouter, openrouter.ai/docs/api/reference/errors-and-debugging
    ("OpenRouter", 402, {"error": {"code": 402, "message": "This request requires more credits, or fewer max_tokens. You requested up to 64000 tokens, but can only afford 2666"}}, "stop_run", "no_balance"),
    ("OpenRouter", 401, {"error": {"code": 401, "message": "Provider returned error", "metadata": {"raw": '{"error":{"message":"invalid x-api-key"}}', "provider_name": "Anthropic"}}}, "retry", "server_error"),
    ("OpenRouter", 200, {"error": {"code": 502, "message": "Provider returned error"}}, "retry", "server_error"),
    ("OpenRouter", 429, {"error": {"code": 429, "message": "Provider returned error", "metadata": {"raw": "deepseek/x is temporarily rate-limited upstream"}}}, "pause", "throttled"),
    ("OpenRouter", 403, {"error": {"code": 403, "message": "deepseek/x requires moderation on Together. Your input was flagged for \"violence\"", "metadata": {"flagged_input": "I had insufficient funds"}}}, "reject", "content_filter"),
    ("OpenRouter", 404, {"error": {"code": 404, "message": "No endpoints found for a/b."}}, "stop_model", "model_not_found"),
    ("OpenRouter", 400, {"error": {"code": 400, "message": "a/b is not a valid model ID"}}, "stop_model", "model_not_found"),
    ("OpenRouter", 503, {"error": {"code": 503, "message": "There is no available model provider that meets your routing requirements"}}, BUSY, "server_error"),
    # OpenAI, platform.openai.com/docs/guides/error-codes
    ("OpenAI", 429, openai("Rate limit reached for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Used 29937, Requested 385. Please try again in 644ms.", "rate_limit_exceeded", "tokens"), "pause", "throttled"),
    ("OpenAI", 429, openai("Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Requested 30601. The input or output tokens must be reduced in order to run successfully.", "rate_limit_exceeded", "tokens"), "reject", "context_length"),
    ("OpenAI", 403, openai("Project `proj_1` does not have access to model `gpt-4.1`", "model_not_found"), "stop_model", "model_denied"),
    ("OpenAI", 403, openai("You are not allowed to sample from this model"), "stop_model", "model_denied"),
    ("OpenAI", 400, openai("Your organization must be verified to use the model `gpt-5`."), "stop_model", "model_denied"),
    ("OpenAI", 403, openai("Country, region, or territory not supported", "unsupported_country_region_territory"), "stop_run", "account_blocked"),
    ("OpenAI", 400, openai("Invalid prompt: your prompt was flagged as potentially violating our usage policy.", "invalid_prompt"), "reject", "content_filter"),
    ("OpenAI", 503, openai("That model is currently overloaded with other requests.", None, "server_error"), "pause", "throttled"),
    ("OpenAI", 400, openai("max_tokens is too large: 100000. This model supports at most 16384 completion tokens"), "reject", "refused_parameter"),
    ("OpenAI", 400, openai("Invalid token: expected value at line 1"), "reject", "rejected"),
    ("OpenAI", 400, openai("We could not parse the JSON body of your request."), "reject", "rejected"),
    # Azure, learn.microsoft.com/azure/ai-services/openai
    ("Azure", 429, {"error": {"code": "429", "message": "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-05-01-preview have exceeded token rate limit of your current OpenAI S0 pricing tier. Please retry after 7 seconds."}}, "pause", "throttled"),
    ("Azure", 404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}}, "stop_model", "model_not_found"),
    ("Azure", 401, {"error": {"code": "401", "message": "Access denied due to invalid subscription key or wrong API endpoint."}}, "stop_run", "invalid_key"),
    ("Azure", 400, {"error": {"message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.", "type": None, "param": "prompt", "code": "content_filter", "status": 400}}, "reject", "content_filter"),
    # Gemini, ai.google.dev/gemini-api/docs/troubleshooting
    ("Gemini", 429, google(429, "You exceeded your current quota, please check your plan and billing details. Please retry in 7.3s.", "RESOURCE_EXHAUSTED"), "pause", "throttled"),
    ("Gemini", 429, google(429, "Resource has been exhausted (e.g. check quota).", "RESOURCE_EXHAUSTED"), "pause", "throttled"),
    ("Gemini", 400, google(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT"), "stop_model", "invalid_key"),
    ("Gemini", 404, google(404, "models/gemini-x is not found for API version v1beta, or is not supported for generateContent.", "NOT_FOUND"), "stop_model", "model_not_found"),
    ("Gemini", 400, google(400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", "INVALID_ARGUMENT"), "reject", "context_length"),
    ("Gemini", 503, google(503, "The model is overloaded. Please try again later.", "UNAVAILABLE"), "pause", "throttled"),
    # Claude, docs.claude.com/en/api/errors; anthropics/claude-code issues 4248, 55132, 75384
    ("Claude", 400, claude("Your credit balance is too low to access the Anthropic API.", "invalid_request_error"), "stop_model", "no_balance"),
    ("Claude", 400, claude("You have reached your specified API usage limits. You will regain access on 2026-12-01.", "invalid_request_error"), "stop_model", "no_balance"),
    ("Claude", 400, claude("prompt is too long: 210000 tokens > 200000 maximum", "invalid_request_error"), "reject", "context_length"),
    ("Claude", 400, claude("max_tokens: 200000 > 64000, which is the maximum allowed number of output tokens", "invalid_request_error"), "reject", "refused_parameter"),
    ("Claude", 401, claude("invalid x-api-key", "authentication_error"), "stop_run", "invalid_key"),
    ("Claude", 404, claude("model: claude-x", "not_found_error"), "stop_model", "model_not_found"),
    ("Claude", 413, claude("Request exceeds the maximum size", "request_too_large"), "reject", "rejected"),
    ("Claude", 429, claude("This request would exceed your organization's rate limit of 30,000 input tokens per minute", "rate_limit_error"), "pause", "throttled"),
    ("Claude", 500, claude("Overloaded", "api_error"), "retry", "server_error"),
    ("Claude", 529, claude("Overloaded", "overloaded_error"), BUSY, "overloaded"),
    # DeepSeek, api-docs.deepseek.com/quick_start/error_codes
    ("DeepSeek", 402, openai("Insufficient Balance", "invalid_request_error", "unknown_error"), "stop_run", "no_balance"),
    ("DeepSeek", 400, openai("Model Not Exist", "invalid_request_error"), "stop_model", "model_not_found"),
    ("DeepSeek", 422, openai("Failed to deserialize the JSON body into the target type: messages[0].role: unknown variant `sytem`"), "reject", "rejected"),
    # Qwen, alibabacloud.com/help/en/model-studio/error-code
    ("Qwen", 400, openai("Access denied, please make sure your account is in good standing.", "Arrearage"), "stop_model", "no_balance"),
    ("Qwen", 400, {"code": "DataInspectionFailed", "message": "Input or output data may contain inappropriate content.", "request_id": "1"}, "reject", "content_filter"),
    ("Qwen", 400, openai("Range of input length should be [1, 6000]", "invalid_parameter_error"), "reject", "context_length"),
    ("Qwen", 403, {"code": "AccessDenied.Unpurchased", "message": "Access to model denied. Please make sure you are eligible for using the model."}, "stop_model", "model_denied"),
    ("Qwen", 403, openai("The free tier of the model has been exhausted.", "AllocationQuota.FreeTierOnly"), "stop_model", "model_denied"),
    ("Qwen", 429, openai("Requests rate limit exceeded, please try again later.", "limit_requests"), "pause", "throttled"),
    ("Qwen", 429, openai(QWEN_QUOTA, "insufficient_quota"), "pause", "throttled"),
    # Zhipu, docs.z.ai/api-reference/api-code
    ("Zhipu", 429, {"error": {"code": "1113", "message": "余额不足或无可用资源包,请充值。"}}, "stop_run", "no_balance"),
    ("Zhipu", 429, {"error": {"code": "1113", "message": "Insufficient balance or no resource package. Please recharge."}}, "stop_run", "no_balance"),
    ("Zhipu", 429, {"error": {"code": "1302", "message": "您当前使用该API的并发数过高，请降低并发，或联系客服增加限额。"}}, "pause", "throttled"),
    ("Zhipu", 429, {"error": {"code": "1113", "message": "Your account is in arrears, please recharge and try again"}}, "stop_run", "no_balance"),
    ("Zhipu", 429, {"error": {"code": "1113", "message": "您的账户已欠费，请充值后重试"}}, "stop_run", "no_balance"),
    ("Zhipu", 400, {"error": {"code": "1211", "message": "模型不存在，请检查模型代码。"}}, "stop_model", "model_not_found"),
    ("Zhipu", 400, {"error": {"code": "1301", "message": "系统检测到输入或生成内容可能包含不安全或敏感内容，请您避免输入易产生敏感内容的提示语"}}, "reject", "content_filter"),
    # Moonshot, platform.moonshot.ai/docs; kimi.com/code/docs/en/kimi-code/error-reference.html
    ("Moonshot", 429, openai("Your account org-1 is suspended, please check your plan and billing details", None, "exceeded_current_quota_error"), "stop_run", "no_balance"),
    ("Moonshot", 429, openai("Your account org-1<ak-1> request reached organization max RPM: 3, please try again after 1 seconds", None, "rate_limit_reached_error"), "pause", "throttled"),
    ("Moonshot", 429, openai("The engine is currently overloaded, please try again later", None, "engine_overloaded_error"), "pause", "throttled"),
    ("Moonshot", 403, openai("You've reached your usage limit for this billing cycle.", None, "permission_error"), "stop_run", "no_balance"),
    ("Moonshot", 404, openai("Not found the model kimi-x or Permission denied", None, "resource_not_found_error"), "stop_model", "model_denied"),
    ("Moonshot", 400, openai("The request was rejected because it was considered high risk", None, "content_filter"), "reject", "content_filter"),
    ("Moonshot", 400, openai("Your request exceeded model token limit: 262144"), "reject", "context_length"),
    # Volcengine Ark, volcengine.com/docs/82379/1299023
    ("Ark", 403, openai("The request failed because your account has an overdue balance. Request id: 1", "AccountOverdueError", "Forbidden"), "stop_run", "no_balance"),
    ("Ark", 404, openai("Your account 1 has not activated the model doubao. Please activate the model service in the Ark Console.", "ModelNotOpen", "NotFound"), "stop_model", "model_denied"),
    ("Ark", 404, openai("The model or endpoint x does not exist or you do not have access to it.", "InvalidEndpointOrModel.NotFound", "NotFound"), "stop_model", "model_denied"),
    ("Ark", 400, openai("The request failed because the input text may contain sensitive information.", "InputTextSensitiveContentDetected", "BadRequest"), "reject", "content_filter"),
    ("Ark", 429, openai("The Requests Per Minute (RPM) limit of the associated endpoint for your account has been exceeded.", "RateLimitExceeded.EndpointRPMExceeded", "TooManyRequests"), "pause", "throttled"),
    # xAI, docs.x.ai/docs/key-information/debugging; continuedev/continue issue 10373
    ("xAI", 429, {"code": "Some resource has been exhausted", "error": "Your team 1 has either used all available credits or reached its monthly spending limit."}, "stop_run", "no_balance"),
    ("xAI", 400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xx. You can obtain an API key from https://console.x.ai."}, "stop_model", "invalid_key"),
    # SiliconFlow, docs.siliconflow.cn/en/faqs/error-code; FoundationAgents/OpenManus issue 438
    ("SiliconFlow", 403, {"code": 30011, "message": "The selected model requires paid balance. Your paid balance is insufficient. Please top up and try again.", "data": None}, "stop_model", "no_balance"),
    ("SiliconFlow", 403, {"code": 30001, "message": "Sorry, your account balance is insufficient", "data": None}, "stop_run", "no_balance"),
    ("SiliconFlow", 400, {"code": 20012, "message": "Model does not exist. Please check it carefully.", "data": None}, "stop_model", "model_not_found"),
    ("SiliconFlow", 503, {"code": 50505, "message": "Model service overloaded. Please try again later.", "data": None}, "pause", "throttled"),
    # Groq, console.groq.com/docs/errors; HunorLaczko/ha-groq-cloud-api issue 27
    ("Groq", 413, openai("Request too large for model llama-3.1-8b-instant in organization org_1 service tier on_demand on tokens per minute (TPM): Limit 6000, Requested 12328", "rate_limit_exceeded", "tokens"), "reject", "context_length"),
    ("Groq", 400, openai("The model `x` has been decommissioned and is no longer supported.", "model_decommissioned"), "stop_model", "model_retired"),
    # Mistral, docs.mistral.ai; editor-code-assistant/eca issue 231
    ("Mistral", 401, {"detail": "Unauthorized"}, "stop_run", "invalid_key"),
    ("Mistral", 400, {"object": "error", "message": "Invalid model: mistral-x", "type": "invalid_model", "param": None, "code": "1500"}, "stop_model", "model_not_found"),
    ("Mistral", 429, {"object": "error", "message": "Service tier capacity exceeded for this model.", "type": "invalid_request_error", "param": None, "code": "3505"}, "pause", "throttled"),
    # Fireworks, amd/gaia issue 3766
    ("Fireworks", 412, openai("Account me is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices.", "PRECONDITION_FAILED", "error"), "stop_run", "no_balance"),
    # vLLM, vllm-project/vllm issue 4667; harbor-framework/harbor pull request 996
    ("vLLM", 404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "param": None, "code": 404}, "stop_model", "model_not_found"),
    ("vLLM", 401, {"error": "Unauthorized"}, "stop_run", "invalid_key"),
    ("vLLM", 400, openai("You passed 1015 input tokens and requested 10 output tokens. However, the model's context length is only 1024 tokens", 400, "BadRequestError"), "reject", "context_length"),
    ("vLLM", 400, {"object": "error", "message": "max_tokens must be at least 1, got -186.", "type": "BadRequestError", "param": None, "code": 400}, "reject", "rejected"),
    # llama.cpp, ggml-org/llama.cpp: tools/server; Ollama, ollama/ollama: server/routes.go
    ("llama.cpp", 400, {"error": {"code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error"}}, "reject", "context_length"),
    ("llama.cpp", 503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, BUSY, "server_error"),
    ("Ollama", 404, {"error": {"message": 'model "x" not found, try pulling it first'}}, "stop_model", "model_not_found"),
    # OpenAI, endpoints of other kinds of models
    ("OpenAI", 404, openai("This is not a chat model and thus not supported in the v1/chat/completions endpoint. Did you mean to use v1/completions?"), "stop_path", "wrong_endpoint"),
    ("OpenAI", 404, openai("This model is only supported in v1/responses and not in v1/chat/completions."), "stop_path", "wrong_endpoint"),
    ("OpenAI", 403, openai("Project `proj_abc` does not have access to model `gpt-4o`", "model_not_found"), "stop_model", "model_denied"),
    ("OpenAI", 401, openai("You have insufficient permissions for this operation. Missing scopes: model.request.", "missing_scope"), "stop_run", "invalid_key"),
    ("Azure", 403, {"error": {"code": "AccessDenied", "message": "Access denied due to Virtual Network/Firewall rules."}}, "stop_run", "account_blocked"),
    ("Azure", 403, {"error": {"code": "403", "message": "Out of call volume quota. Quota will be replenished in 2.12:11:07."}}, "stop_run", "no_balance"),
    ("Azure", 401, {"error": {"code": "401", "message": "Access denied due to invalid subscription key or wrong API endpoint."}}, "stop_run", "invalid_key"),
    ("Anthropic", 403, claude("Your API key does not have permission to use the specified resource.", "permission_error"), "stop_model", "model_denied"),
    ("Gemini", 403, google(403, "Permission denied: Consumer 'api_key:AIza' has been suspended.", "PERMISSION_DENIED"), "stop_run", "account_blocked"),
    ("Gemini", 400, google(400, "User location is not supported for the API use.", "FAILED_PRECONDITION"), "retry 3", "server_error"),
    ("Gemini", 503, google(503, "The model is overloaded. Please try again later.", "UNAVAILABLE"), "pause", "throttled"),
    ("Zhipu", 400, {"error": {"code": "1261", "message": "Prompt 超长"}}, "reject", "context_length"),
    ("Zhipu", 429, {"error": {"code": "1113", "message": "余额不足或无可用资源包,请充值。"}}, "stop_run", "no_balance"),
    ("Zhipu", 400, {"error": {"code": "1211", "message": "模型不存在，请检查模型代码。"}}, "stop_model", "model_not_found"),
    ("Bedrock", 400, {"message": "The provided model identifier is invalid."}, "stop_model", "model_not_found"),
    ("Bedrock", 403, {"message": "You don't have access to the model with the specified model ID."}, "stop_model", "model_denied"),
    ("Bedrock", 400, {"message": "Invocation of model ID x with on-demand throughput isn’t supported."}, "stop_path", "wrong_endpoint"),
    ("Bedrock", 429, {"message": "Too many tokens, please wait before trying again."}, "pause", "throttled"),
    ("TGI", 422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens", "error_type": "validation"}, "reject", "context_length"),
    ("TGI", 429, {"error": "Model is overloaded", "error_type": "overloaded"}, "pause", "throttled"),
    ("Ollama", 404, {"error": {"message": 'model "x" not found, try pulling it first', "type": "api_error"}}, "stop_model", "model_not_found"),
    ("llama.cpp", 503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, BUSY, "server_error"),
    ("MiniMax", 200, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, "stop_run", "no_balance"),
    ("MiniMax", 200, {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}, "choices": None}, "pause", "throttled"),
    ("Baidu", 200, {"error_code": 18, "error_msg": "Open api qps request limit reached"}, "pause", "throttled"),
    ("SiliconFlow", 403, {"code": 30003, "message": "Model disabled.", "data": None}, "stop_model", "model_denied"),
    ("SiliconFlow", 403, {"code": 30001, "message": "Sorry, your account balance is insufficient", "data": None}, "stop_run", "no_balance"),
    # llama.cpp, ggml-org/llama.cpp: tools/server/utils.hpp, common/chat.cpp; issues 13566, 15377, 12947
    ("llama.cpp", 500, {"error": {"code": 500, "message": "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj", "type": "server_error"}}, "reject", "rejected"),
    ("llama.cpp", 500, {"error": {"code": 500, "message": "audio input is not supported by this server", "type": "server_error"}}, "reject", "rejected"),
    ("llama.cpp", 500, {"error": {"code": 500, "message": "Failed to parse messages: Unsupported content part type: \"image_url\"; messages = [{\"role\": \"user\"}]", "type": "server_error"}}, "reject", "rejected"),
    ("llama.cpp", 500, {"error": {"code": 500, "message": "tools param requires --jinja flag", "type": "server_error"}}, "reject", "rejected"),
    ("llama.cpp", 500, {"error": {"code": 500, "message": "Compute error.", "type": "server_error"}}, "retry", "server_error"),
    ("llama.cpp", 400, {"error": {"code": 400, "message": "the request exceeds the available context size. try increasing the context size or enable context shift", "type": "exceed_context_size_error"}}, "reject", "context_length"),
    *(("llama.cpp", 500, {"error": {"code": 500, "message": message, "type": "server_error"}}, "reject", "rejected") for message in (
        "Only one completion choice is allowed", "Only no echo is supported", "Unsupported param: best_of", '"prompt" is required', "unsupported content[].type",
        "Cannot use custom grammar constraints with tools.", "Invalid tool_choice: f", "Missing 'content'", "Expected 'messages' to be an array",
        "This server does not support images. Start it with `--mmproj`", "Assistant response prefill is incompatible with enable_thinking.",
        "Cannot have 2 or more assistant messages at the end of the list.", "json_schema_to_grammar: JSON schema conversion failed: Unrecognized schema",
        "top_logprobs requires logprobs to be set to true", "Failed to initialize samplers: failed to parse grammar",
    )),
    ("llama.cpp", 500, {"error": {"code": 500, "message": "the request exceeds the available context size. try increasing the context size or enable context shift", "type": "server_error"}}, "reject", "context_length"),
    ("llama.cpp", 500, {"error": {"code": 500, "message": "input (600 tokens) is too large to process. increase the physical batch size (current batch size: 512)", "type": "server_error"}}, "reject", "context_length"),
    ("LiteLLM", 500, openai("litellm.ContextWindowExceededError: litellm.BadRequestError: This model's maximum context length is 4096 tokens.", "500", None), "reject", "context_length"),
    ("LiteLLM", 500, openai("No deployments available for selected model, Try again in 60 seconds. Passed model=x", "500", None), "retry", "server_error"),
    *(("a gateway", status, openai("Rate limit exceeded, retry in 3s", None, None), "pause", "throttled") for status in (400, 404, 409, 422, 424, 499, 500, 502, 504, 520, 529)),
    ("a gateway", 500, openai("Resource has been exhausted (e.g. check quota).", None, "RESOURCE_EXHAUSTED"), "pause", "throttled"),
    *(("a gateway", 500, openai(message, None, None), "pause", "throttled") for message in (
        "Rate exceeded", "Request was throttled. Expected available in 5 seconds.", "throttled by upstream", "Concurrency limit exceeded",
        "Quota exceeded for requests per minute of this model",
    )),
    ("Gemini", 429, google(429, "You exceeded your current quota. Your quota will reset after 2h26m28s.", "RESOURCE_EXHAUSTED"), "pause", "throttled"),
    ("OpenRouter", 404, {"error": {"code": 404, "message": "No endpoints found that support image input"}}, "reject", "rejected"),
    ("One API", 500, gateway("当前分组上游负载已饱和，请稍后再试"), "pause", "throttled"),
    ("Bedrock", 400, {"message": "Too many tokens per day, please wait before trying again."}, "pause", "throttled"),
    # Bedrock, by itself and as LiteLLM hands it through; BerriAI/litellm 589, anthropics/claude-code 236 and 1466
    ("Bedrock", 400, {"__type": "ThrottlingException", "message": "Too many tokens, please wait before trying again."}, "pause", "throttled"),
    *(("Bedrock", status, {"__type": f"{service}ThrottlingException", "message": "Too many tokens, please wait"}, "pause", "throttled") for status, service in ((200, ""), (400, "com.amazon.coral.service#"), (500, ""))),
    *(("Gemini behind a gateway", status, google(429, "Quota exceeded", "RESOURCE_EXHAUSTED"), "pause", "throttled") for status in (200, 400, 403, 404, 500, 503)),
    ("Bedrock", 503, {"message": "An error occurred (ThrottlingException) when calling the InvokeModel operation (reached max retries: 4): Too many requests, please wait before trying again."}, "pause", "throttled"),
    ("LiteLLM", 500, openai("litellm.APIConnectionError: BedrockException: An error occurred (throttlingException) when calling the Converse operation: Too many tokens, please wait before trying again.", "500", None), "pause", "throttled"),
    ("LiteLLM", 400, openai('litellm.BadRequestError: BedrockException - {"message":"Too many tokens, please wait before trying again."}', "400", None), "pause", "throttled"),
    ("LiteLLM", 200, openai("BedrockException - ThrottlingException: Too many tokens per day", None, None), "pause", "throttled"),
    ("LiteLLM", 500, openai("litellm.RateLimitError: RateLimitError: OpenAIException - Rate limit reached", "500", None), "pause", "throttled"),
    ("AWS", 400, {"code": "TooManyRequestsException", "message": "x"}, "pause", "throttled"),
    # Gemini's quota, as other services report it
    ("Vertex", 429, google(429, "Resource exhausted. Please try again later. Please refer to https://cloud.google.com/vertex-ai/generative-ai/docs/error-code-429 for more details.", "RESOURCE_EXHAUSTED"), "pause", "throttled"),
    ("Groq", 429, openai("Rate limit reached for model `llama3-70b-8192` in organization `org_1` on tokens per minute (TPM): Limit 7000, Used 0, Requested ~12903. Please try again in 50.597142857s.", "rate_limit_exceeded", "tokens"), "pause", "throttled"),
    # in front of them
    ("nginx", 502, b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>", "retry", "server_error"),
    ("nginx", 504, b"<html>\r\n<head><title>504 Gateway Time-out</title></head>\r\n<body>", "retry", "server_error"),
    ("Cloudflare", 429, b"error code: 1015", "pause", "throttled"),
    ("Cloudflare", 403, b"<!DOCTYPE html><html><head><title>Attention Required! | Cloudflare</title></head>", "retry 3", "unknown"),
    ("Cloudflare", 522, b"error code: 522", "retry", "server_error"),
    ("Cloudflare", 530, b"error code: 1033", "retry", "server_error"),
    ("Envoy", 503, b"upstream connect error or disconnect/reset before headers. reset reason: overflow", BUSY, "server_error"),
    ("HAProxy", 503, b"<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n</body></html>", BUSY, "server_error"),
    ("a web host", 509, b"Bandwidth Limit Exceeded", BUSY, "server_error"),
    ("Baidu", 200, {"error_code": 336100, "error_msg": "the server is busy, please try again"}, BUSY, "server_error"),
    ("Zhipu", 500, {"error": {"code": "1234", "message": "系统繁忙，请稍后再试"}}, BUSY, "server_error"),
    ("Envoy", 504, b"upstream request timeout", "retry", "server_error"),
    *(("a path that is not there", 404, said, NO_PATH, "not_found") for said in (
        {"detail": "Not Found"}, b"404 page not found\n", b"", {"error": "Not Found"}, openai("Unknown request URL: POST /openai/v1/x"),
        {"error": {"code": "404", "message": "Resource not found"}}, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}},
        {"message": "no Route matched with those values"}, b"Cannot POST /v1/x", {"error": {"message": "Path not found: /v1/x"}},
    )),
    *(("a thing that a row names", 404, said, "retry 3", "not_found") for said in (
        openai("Previous response with id 'resp_1' not found."), openai("No such File object: file-1"), {"detail": "Vector store vs_1 not found"},
        openai("File file-1 not found", "not_found"), {"title": "Not Found", "detail": "Function 'x': Not found for account 'y'"},
    )),
    ("AWS", 504, {"message": "Endpoint request timed out"}, "retry", "server_error"),
    ("AWS", 429, {"message": "Limit Exceeded"}, "pause", "throttled"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("who", "status", "body", "following", "kind"), SAID, ids=[f"{row[0]} {row[1]} {n}" for n, row in enumerate(SAID)]
)
async def test_documented_errors_are_classified(
    wire: Wire, who: str, status: int, body: object, following: str, kind: str
) -> None:
    outcome = classify(await wire.exchange(reply(status, body)))
    assert isinstance(outcome, Failure), who
    assert (follows(outcome), outcome.type) == (following, kind), outcome.message


CODES: list[tuple[int, str, str, str]] = [
    (401, "retry", "server_error", "do_request_failed get_channel_failed read_response_body_failed bad_response bad_response_body empty_response query_data_error update_data_error token_concurrency_unavailable channel:no_available_key channel:invalid_key channel:model_mapped_error channel:aws_client_error channel:response_time_exceeded channel:param_override_invalid channel:header_override_invalid upstream_error"),
    (400, "stop_run", "no_balance", "insufficient_user_quota pre_consume_token_quota_failed budget_exceeded"),
    (429, "stop_run", "no_balance", "insufficient_quota insufficient_balance credit_balance_exhausted billing_hard_limit_reached billing_not_active exceeded_current_quota_error Arrearage AccountOverdueError OperationDenied.ServiceOverdue"),
    (400, "stop_model", "no_balance", "insufficient_quota insufficient_balance credit_balance_exhausted billing_hard_limit_reached billing_not_active exceeded_current_quota_error Arrearage AccountOverdueError OperationDenied.ServiceOverdue"),
    (400, "reject", "refused_parameter", "unsupported_parameter unsupported_value unknown_parameter"),
    (403, "stop_model", "model_denied", "model_access_denied key_model_access_denied team_model_access_denied ModelNotOpen AccessDenied.Unpurchased AllocationQuota.FreeTierOnly"),
    (429, "stop_model", "model_denied", "SetLimitExceeded"),
    (404, "stop_model", "model_retired", "model_retired model_deprecated model_decommissioned"),
    (404, "stop_model", "model_not_found", "no_available_channel model_not_found model_not_exist invalid_model model_not_supported ModelNotFound DeploymentNotFound model_not_available InvalidEndpointOrModel.NotFound"),
    (503, AGAIN, "model_not_found", "no_available_channel model_not_found model_not_exist model_price_error"),
    (403, "stop_run", "account_blocked", "account_deactivated unsupported_country_region_territory ip_not_authorized"),
    (403, "stop_run", "invalid_key", "invalid_api_key authentication_error API_KEY_INVALID InvalidApiKey"),
    (400, "stop_model", "invalid_key", "invalid_api_key authentication_error API_KEY_INVALID InvalidApiKey"),
    (403, "reject", "content_filter", "content_filter content_policy_violation data_inspection_failed DataInspectionFailed sensitive_words_detected prompt_blocked ResponsibleAIPolicyViolation prohibited_content invalid_prompt violation_fee.grok.csam SensitiveContentDetected"),
    (500, "reject", "content_filter", "content_filter sensitive_words_detected prompt_blocked"),
    (400, "reject", "context_length", "context_length_exceeded string_above_max_length context_window_exceeded exceed_context_size_error prompt_too_long text_too_long"),
    (500, "reject", "rejected", "invalid_request bad_request_body"),
    (200, "reject", "rejected", "invalid_request_error"),
    (503, "pause", "throttled", "server_is_overloaded slow_down rate_limit_exceeded rate_limit_error ServerOverloaded"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "status", "following", "kind"),
    [(code, status, following, kind) for status, following, kind, codes in CODES for code in codes.split()],
)
async def test_a_code_is_understood_without_its_message(
    wire: Wire, code: str, status: int, following: str, kind: str
) -> None:
    for body in ({"error": {"message": "x", "code": code}}, {"error": {"message": "x", "type": code}}):
        outcome = classify(await wire.exchange(reply(status, body)))
        assert isinstance(outcome, Failure)
        assert (follows(outcome), outcome.type, outcome.code) == (following, kind, code)


TROUBLES = ["Insufficient account balance", "your account has been suspended", "no such model", "invalid api key", "rate limit: too many requests", "the model has been deprecated", "模型不存在", "用户余额不足"]  # fmt: skip


@pytest.mark.parametrize("status", [400, 403, 422, 500, 200])
@pytest.mark.parametrize("prompt", TROUBLES)
@pytest.mark.parametrize(
    "around",
    [
        "Invalid value at 'contents[0]': \"Summarise: {}, please\"",
        "messages.0.content: Input should be a valid list [input_value='It says {} again', input_type=str]",
        "Could not use `the words {} here` as a role",
        "Could not use 'a text that never ends: {} and so on",
        '不能用"标题：{}"作答',
    ],
)
async def test_text_quoted_from_a_prompt_means_nothing(wire: Wire, status: int, prompt: str, around: str) -> None:
    plain = classify(await wire.exchange(reply(status, openai(around.format("hello"), kind="x"))))
    quoting = classify(await wire.exchange(reply(status, openai(around.format(prompt), kind="x"))))
    assert isinstance(plain, Failure)
    assert isinstance(quoting, Failure)
    assert (quoting.action, quoting.type) == (plain.action, plain.type)
    assert prompt in quoting.message


async def test_the_input_in_an_error_is_not_part_of_its_message(wire: Wire) -> None:
    """FastAPI and pydantic repeat the input next to their message."""
    part = {"type": "string_type", "loc": ["body", "messages"], "msg": "Input should be a list", "input": "no such model", "url": "https://errors.pydantic.dev"}  # fmt: skip
    outcome = classify(await wire.exchange(reply(422, {"detail": [part, "x"]})))
    assert isinstance(outcome, Failure)
    assert (follows(outcome), outcome.type) == ("reject", "rejected")
    assert outcome.message == "messages: Input should be a list; x"


PARAMETERS: list[tuple[str, str | None, str]] = [
    ("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "max_tokens", "use max_completion_tokens instead of max_tokens for this model"),
    ("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", None, "use max_completion_tokens instead of max_tokens for this model"),
    ("Unrecognized request argument supplied: max_completion_tokens", None, "use max_tokens instead of max_completion_tokens for this model"),
    ("max_completion_tokens: Extra inputs are not permitted", None, "use max_tokens instead of max_completion_tokens for this model"),
    ("Unsupported parameter: 'temperature' is not supported with this model.", "temperature", "leave out temperature for this model"),
    ("Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.", "temperature", "change temperature or leave it out for this model"),
    ("invalid temperature: only 1 is allowed for this model", None, "change temperature or leave it out for this model"),
    ("litellm.UnsupportedParamsError: openai does not support parameters: ['top_k'], for model=o1", None, "leave out top_k for this model"),
    ("Argument not supported on this model: presencePenalty", None, "leave out presencePenalty for this model"),
    ("Unsupported value: 'reasoning.summary'", "reasoning.summary", "change reasoning.summary or leave it out for this model"),
    ("max_tokens is too large: 100000. This model supports at most 16384 completion tokens", "max_tokens", "change max_tokens or leave it out for this model"),
    ("max_tokens: 200000 > 64000, which is the maximum allowed number of output tokens", None, "change max_tokens or leave it out for this model"),
    ("temperature is deprecated for this model.", None, "leave out temperature for this model"),
    ("max_tokens (384000) exceeds model's maximum output tokens (65536) for model x", None, "change max_tokens or leave it out for this model"),
    ("`max_tokens` must be less than or equal to `16384`, the maximum value for `max_tokens`", None, "change max_tokens or leave it out for this model"),
    ("`temperature` is deprecated for this model.", None, "leave out temperature for this model"),
    ("With this model the parameter 'functions' has been deprecated", None, "leave out functions for this model"),
    ("`temperature` and `top_p` cannot both be specified for this model. Please use only one.", None, ""),
    ("Streaming is not supported with this model", None, ""),
    ("Invalid type for 'messages[0].content'", "messages[0].content", ""),
    ("Invalid value: 'sytem'", "messages", ""),
    ("Invalid schema for response_format 'x'", "response_format", ""),
    ("Invalid 'top_p': decimal above maximum value", "top_p", ""),
    ("something else", None, ""),
    ("Unsupported parameter: x", "x" * 5000, "leave out x for this model"),
    ("No", "\x1b[31m", ""),
]  # fmt: skip


@pytest.mark.parametrize(("message", "param", "advice"), PARAMETERS)
async def test_a_refused_parameter_comes_with_advice(wire: Wire, message: str, param: str | None, advice: str) -> None:
    outcome = classify(await wire.exchange(reply(400, openai(message, param=param))))
    assert isinstance(outcome, Failure)
    assert follows(outcome) == "reject"
    assert outcome.message == message + (f"; {advice}" if advice else "")


async def test_a_refused_parameter_is_found_in_a_list_of_errors(wire: Wire) -> None:
    """In Mistral's form."""
    part = {"type": "extra_forbidden", "loc": ["body", "max_completion_tokens"], "msg": "Extra inputs are not permitted", "input": 32000}  # fmt: skip
    body = {"object": "error", "message": {"detail": [part]}, "type": "invalid_request_error", "param": None}
    outcome = classify(await wire.exchange(reply(422, body)))
    assert isinstance(outcome, Failure)
    assert outcome.message == (
        "max_completion_tokens: Extra inputs are not permitted;"
        " use max_tokens instead of max_completion_tokens for this model"
    )


async def test_a_key_repeated_in_advice_is_masked(wire: Wire) -> None:
    outcome = classify(await wire.exchange(reply(400, openai(f"Unsupported parameter: {KEY}", param=KEY))))
    assert isinstance(outcome, Failure)
    assert KEY not in repr(outcome)


def test_all_rules_of_a_type_agree_on_whether_the_job_must_change() -> None:
    assert all(rule.needs_job_change is (rule.type in JOB_FAILURES) for rule in RULES)


def test_only_failures_that_nobody_is_billed_for_may_be_an_overload() -> None:
    found = {status: classify(Exchange(0, 0, 0.1, status, b"<html>")) for status in (*range(500, 531), 200)}
    overload = {status for status, one in found.items() if isinstance(one, Failure) and one.may_be_overload}
    assert overload == {200, 502, 520, 521, 522}
    for maybe_billed in (True, False):
        failure = classify(Exchange(0, 0, 0.1, fault="connection", maybe_billed=maybe_billed))
        assert isinstance(failure, Failure)
        assert failure.may_be_overload is not maybe_billed
