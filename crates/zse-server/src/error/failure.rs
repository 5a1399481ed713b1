//! Failures of the server's own. Where a GPU has failed, asking again helps.

use hyper::StatusCode;
use zse::GpuState;

use super::ApiError;

/// Seconds after which a GPU that has failed mostly serves again.
const SET_UP: u64 = 5;

impl ApiError {
    /// A model that cannot be loaded; `why` is not for clients.
    pub(crate) fn cannot_load(name: &str, why: String) -> Self {
        match zse::gpu_state() {
            GpuState::Sound => Self {
                message: format!("the model '{name}' cannot be loaded; the server's log says why"),
                ..Self::internal(why)
            },
            failed => Self::failure(why, failed),
        }
    }

    /// A failure of ours, where GPUs are in this state.
    pub(crate) fn failure(why: impl Into<String>, gpus: GpuState) -> Self {
        let error = Self::internal(why);
        match gpus {
            GpuState::Sound => error,
            GpuState::Failed | GpuState::Broken => Self {
                status: StatusCode::SERVICE_UNAVAILABLE,
                message: "the GPU failed, and is being set up again: try again".to_owned(),
                code: Some("device_failed"),
                retry_after: SET_UP,
                ..error
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use hyper::header::RETRY_AFTER;

    use super::*;

    #[test]
    fn behind_a_failed_gpu_clients_are_asked_to_come_again() {
        let sound = ApiError::failure("why", GpuState::Sound);
        assert_eq!(sound, ApiError::internal("why"));
        for state in [GpuState::Failed, GpuState::Broken] {
            let error = ApiError::failure("/secret/path broke", state);
            assert!(!error.body().to_string().contains("secret"));
            assert!(error.internal.is_some(), "it is reported");
            let response = error.into_response();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[RETRY_AFTER], "5");
        }
    }
}
